"""Local listeners whose connections come out on a node: what they share, and the one for a port of its loopback (SSH direct-tcpip).

Owns the listener's threads and ends them all on exit. Needs an authenticated transport. Called by ssh.Connection.forward; relay.py has the
listener for a unix socket.
"""

import contextlib
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import paramiko


class Loopback(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1:`local` (0 = any free port); leaving the context ends every connection and thread."""

    allow_reuse_address = True
    daemon_threads = False
    broken = False  # the way to the node has ended, where that can be seen here

    def __init__(self, local: int = 0) -> None:
        super().__init__(("127.0.0.1", local), socketserver.BaseRequestHandler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="forward")

    @property
    def port(self) -> int:
        """The local port."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.stop()
        self.server_close()  # joins the threads of the connections, which end with their ways to the node

    def start(self) -> None:
        """Begin what the connections need beside the listener."""

    def stop(self) -> None:
        """End every connection's way to the node."""


class Listener(Loopback):
    """Its connections come out at 127.0.0.1:`remote` of the node."""

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
        """Carry one connection, in a thread of its own."""
        import paramiko

        try:
            channel = self._transport.open_channel(
                "direct-tcpip", ("127.0.0.1", self._remote), client_address, timeout=15
            )
        except (paramiko.SSHException, OSError, EOFError):
            return  # Nobody listens there, or the connection is gone: the client sees its connection closed.
        with self._lock:
            self._channels.add(channel)
            late = self._ended
        try:
            with contextlib.suppress(OSError, EOFError):
                if not late:
                    _carry(request, channel)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()


def _carry(client: socket.socket, channel: "paramiko.Channel") -> None:
    """Copy both ways until the node's side ends; the client may end its own direction before."""
    reading: list[Any] = [client, channel]
    while True:
        ready = select.select(reading, [], [])[0]
        if client in ready:
            if data := client.recv(1 << 16):
                channel.sendall(data)
            else:
                channel.shutdown_write()
                reading.remove(client)
        if channel in ready:
            if data := channel.recv(1 << 16):
                client.sendall(data)
            else:
                return
