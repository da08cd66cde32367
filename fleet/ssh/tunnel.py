"""A local listener that forwards connections to a port of a node's loopback (SSH direct-tcpip).

Needs an authenticated transport. Called by connection.py; relay.py has the listener for a unix socket.
"""

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from fleet.loopback import Loopback

if TYPE_CHECKING:
    import paramiko


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
