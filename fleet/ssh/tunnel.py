"""Local listeners that forward connections to a node: their base, and one for a port of the node's loopback (SSH direct-tcpip).

Owns the listener's threads and ends them on exit. Needs an authenticated transport. Called by connection.py; relay.py has the listener for
a unix socket.
"""

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import paramiko


class Loopback(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1:`local` (0 = any free port); leaving the context ends every connection and thread."""

    request_queue_size = 128  # by default 5: the kernel resets some of thirty clients that connect at once
    allow_reuse_address = True
    daemon_threads = False
    broken = False  # whether the connection to the node has ended, if the listener can see that

    def __init__(self, local: int = 0) -> None:
        super().__init__(("127.0.0.1", local), socketserver.BaseRequestHandler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="forward")

    @property
    def port(self) -> int:
        """Return the local port."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.stop()
        self.server_close()  # joins the threads of the connections, which `stop` has ended

    def start(self) -> None:
        """Start what the connections need besides the listener."""

    def stop(self) -> None:
        """End all connections to the node."""


class Listener(Loopback):
    """Forwards to 127.0.0.1:`remote` of the node."""

    def __init__(self, transport: "paramiko.Transport", remote: int, local: int = 0) -> None:
        self._transport, self._remote = transport, remote
        self._channels: set[paramiko.Channel] = set()
        self._lock = threading.Lock()
        self._ended = False
        super().__init__(local)

    def stop(self) -> None:
        """Close every channel."""
        with self._lock:
            self._ended = True
            channels = list(self._channels)
        for channel in channels:
            channel.close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Forward one connection, in its own thread."""
        import paramiko

        try:
            channel = self._transport.open_channel(
                "direct-tcpip", ("127.0.0.1", self._remote), client_address, timeout=15
            )
        except (paramiko.SSHException, OSError, EOFError):
            return  # nobody listens there, or the connection broke: the client sees a closed connection
        with self._lock:
            self._channels.add(channel)
            stopped = self._ended
        try:
            with contextlib.suppress(OSError, EOFError):
                if not stopped:
                    _copy(request, channel)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()


def _copy(client: socket.socket, channel: "paramiko.Channel") -> None:
    """Copy both ways until the node's side ends; the client's direction may end before.

    A thread a direction, not select(channel): close() would close its pipe while paramiko's thread writes to it, and the whole connection breaks.
    """
    sender = threading.Thread(target=_send_all, args=(client, channel), name="forward")
    sender.start()
    try:
        while data := channel.recv(1 << 16):
            client.sendall(data)
    finally:
        channel.close()
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # ends `_send_all`
        sender.join()


def _send_all(client: socket.socket, channel: "paramiko.Channel") -> None:
    """Send the client's data to the node until it ends."""
    with contextlib.suppress(OSError, EOFError):
        while data := client.recv(1 << 16):
            channel.sendall(data)
        channel.shutdown_write()
