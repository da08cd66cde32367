"""A port of a pod on this machine's loopback, through the API server (websocket, protocol v4.channel.k8s.io).

Needs the right to port-forward. Each connection to the listener is one websocket: Kubernetes' own protocol has two channels for a port, data
and error, and no half-closed state. Called by the provider for the probes, and by the verbs.
"""

import contextlib
import select
import socket
import threading
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fleet import errors, printable
from fleet.cluster.client import CONNECT, Cluster
from fleet.loopback import Loopback

if TYPE_CHECKING:
    import websocket

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
PIECE = 1 << 15
FRAME = 1 << 22  # bytes; a kubelet sends at most 32 KiB
SENDING, RECEIVING = 60.0, 1.0  # seconds for a piece


class Listener(Loopback):
    """Forwards to `port` of a pod; `seen` is the last error that the cluster has reported about it."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int, local: int = 0) -> None:
        self._cluster, self._pod, self._port = cluster, pod, port
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._open: set[websocket.WebSocket] = set()
        self._lock = threading.Lock()
        self._ended = False
        self.seen = ""
        super().__init__(local)

    def stop(self) -> None:
        """End every connection."""
        with self._lock:
            self._ended = True
            sockets = list(self._open)
        for each in sockets:
            _end(each)

    def check(self) -> None:
        """Open one connection to the pod and close it. Raises FleetError where the cluster does not let us through."""
        _end(self._connect())

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Forward one connection, in its own thread."""
        try:
            channel = self._connect()
        except errors.FleetError as error:
            self.seen = error.seen
            return  # the client sees a closed connection
        with self._lock:
            self._open.add(channel)
            ended = self._ended
        try:
            if not ended:
                self._copy(request, channel)
        finally:
            with self._lock:
                self._open.discard(channel)
            _end(channel)

    def _connect(self) -> "websocket.WebSocket":
        """Return a websocket to the pod's port. Raises ClusterRefused and ClusterUnreachable."""
        import websocket

        configuration = self._cluster.configuration
        url = (
            f"wss{configuration.host.removeprefix('https')}{self._path}?{urllib.parse.urlencode({'ports': self._port})}"
        )
        options: dict[str, Any] = {"context": self._cluster.tls}
        if configuration.tls_server_name:
            options["server_hostname"] = configuration.tls_server_name
        channel = websocket.WebSocket(sslopt=options, skip_utf8_validation=True, enable_multithread=True)
        header = [f"{name}: {value}" for name, value in self._cluster.credentials().items()]
        doing = f"forward a port of pod {self._pod}"
        try:
            connect: Callable[..., None] = channel.connect
            connect(url, header=header, subprotocols=[PROTOCOL], timeout=CONNECT, **_proxy(configuration))
        except websocket.WebSocketBadStatusException as cause:
            raise self._cluster.refused(doing, cause.status_code, cause.resp_body or b"") from cause
        except (websocket.WebSocketException, OSError) as cause:
            raise self._cluster.silent(doing, cause) from cause
        channel.settimeout(None)
        return channel

    def _copy(self, client: socket.socket, channel: "websocket.WebSocket") -> None:
        """Copy both ways until one side ends, in one thread: OpenSSL's connections are not for two."""
        greeted: set[int] = set()  # the first frame of each channel repeats the port
        with contextlib.suppress(*_ends()):
            while True:
                if client in _readable(client, channel):
                    data = client.recv(PIECE)
                    if not data:
                        return
                    channel.settimeout(SENDING)
                    channel.send_binary(bytes([DATA]) + data)
                    continue
                frame = _receive(channel)
                if frame is None:
                    continue
                number, data = frame[0], frame[1:]
                if number not in greeted and number in (DATA, ERROR):
                    greeted.add(number)
                elif number == DATA:
                    client.sendall(data)
                else:
                    self.seen = printable.short(data.decode(errors="replace"), 200)
                    return


def _proxy(configuration: Any) -> dict[str, Any]:
    """Return the options for a proxy that the kubeconfig or the environment names."""
    if not configuration.proxy:
        return {"http_no_proxy": ["*"]}
    parts = urllib.parse.urlsplit(configuration.proxy)
    excluded = [name for name in (configuration.no_proxy or "").split(",") if name]
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port,
        "proxy_type": "http",
        "http_no_proxy": excluded,
    }


def _ends() -> tuple[type[Exception], ...]:
    """Return the exceptions of a connection that has ended."""
    import websocket

    return (websocket.WebSocketException, OSError)


def _readable(client: socket.socket, channel: "websocket.WebSocket") -> list[Any]:
    """Wait until one side has something to read; what TLS has already decrypted, the system does not know."""
    pod: Any = channel.sock
    if pod.pending():
        return [pod]
    readable, _, _ = select.select([client, pod], [], [])
    return readable


def _receive(channel: "websocket.WebSocket") -> bytes | None:
    """Return the next frame of data; None where only TLS itself had something to say. Raises OSError at the end."""
    import websocket

    channel.settimeout(RECEIVING)
    try:
        opcode, data = channel.recv_data()
    except websocket.WebSocketTimeoutException:
        return None  # what it has of a frame stays in its buffer
    if opcode != websocket.ABNF.OPCODE_BINARY or not 0 < len(data) <= FRAME:
        raise OSError("the pod's side has ended")
    return bytes(data)


def _end(channel: "websocket.WebSocket") -> None:
    """Close a websocket; a thread that waits for it sees its end."""
    if (raw := channel.sock) is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(raw, socket.SHUT_RDWR)  # not TLS's own, which another thread may be in
    with contextlib.suppress(OSError):
        channel.shutdown()  # type: ignore[no-untyped-call]
