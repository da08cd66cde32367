"""A local listener that forwards connections to a unix socket of a node, all through one command there (on_node_relay.py).

sshd could connect to the socket itself, but only as the login user, who may need sudo for it; and a command for each connection would exceed
sshd's limit of ten sessions. Owns the listener's threads and ends them on exit. Called by connection.py.
"""

import contextlib
import itertools
import queue
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.loopback import Loopback

if TYPE_CHECKING:
    import paramiko

SCRIPT = Path(__file__).with_name("on_node_relay.py")
# Reads the program from stdin up to a zero byte; the frames follow.
COMMAND = '/usr/bin/python3 -I -c \'import os; exec(b"".join(iter(lambda: os.read(0, 1), b"\\0")))\''
HEAD = struct.Struct(">II")
RESET = 0xFFFFFFFF
FRAME = 1 << 15  # bytes of data in a frame, in both directions
WAITING = 2048  # frames in the inbox of a client that does not read; with more its connection ends


def begin(channel: "paramiko.Channel", path: str, timeout: float = 15) -> str:
    """Send the program to COMMAND and wait `timeout` seconds until it runs. Return "", or the error of one that does not."""
    channel.settimeout(timeout)
    channel.sendall(f"{SCRIPT.read_text()}\nmain({path!r})\n\0".encode())
    try:
        head = _exactly(channel, HEAD.size)
    except TimeoutError:
        return f"no output within {timeout:g} s"
    if head == HEAD.pack(0, 0):
        channel.settimeout(None)
        return ""
    stderr = channel.makefile_stderr("r").read(1 << 12)
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    return (text.strip().splitlines() or ["it ended"])[-1]


class Listener(Loopback):
    """Listens on 127.0.0.1:`local` (0 = any free port); `channel` is of a program that runs (`begin`)."""

    def __init__(self, channel: "paramiko.Channel", local: int = 0) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, queue.SimpleQueue[bytes]] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._receiver = threading.Thread(target=self._receive, name="forward")
        super().__init__(local)

    def start(self) -> None:
        """Start to receive frames."""
        self._receiver.start()

    def stop(self) -> None:
        """End the program, and so all connections."""
        broken = self.broken
        self._channel.close()
        self._receiver.join()
        self.broken = broken

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Forward one connection, in its own thread."""
        number, inbox = next(self._numbers), queue.SimpleQueue[bytes]()
        with self._lock:
            if self.broken:
                return
            self._inboxes[number] = inbox
        sender = threading.Thread(target=self._send_all, args=(number, request), name="forward")
        sender.start()
        with contextlib.suppress(OSError):  # the client has closed its connection
            while data := inbox.get():
                request.sendall(data)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # ends `_send_all`
        sender.join()
        with self._lock:
            del self._inboxes[number]
        self._send(number, RESET)

    def _send_all(self, number: int, client: socket.socket) -> None:
        """Send the client's data as frames until it ends."""
        with contextlib.suppress(OSError):
            while data := client.recv(FRAME):
                self._send(number, len(data), data)
        self._send(number, 0)

    def _send(self, number: int, length: int, data: bytes = b"") -> None:
        with self._sending, contextlib.suppress(OSError):  # the program has ended, as `_receive` also sees
            self._channel.sendall(HEAD.pack(number, length) + data)

    def _receive(self) -> None:
        """Put the data of each frame into its client's inbox, until the program ends or sends a malformed frame."""
        with contextlib.suppress(OSError):
            while len(head := _exactly(self._channel, HEAD.size)) == HEAD.size:
                number, length = HEAD.unpack(head)
                if length > FRAME:
                    break
                data = _exactly(self._channel, length)
                with self._lock:
                    inbox = self._inboxes.get(number)
                if inbox is not None:
                    inbox.put(data if inbox.qsize() < WAITING else b"")
        with self._lock:
            self.broken = True
            inboxes = list(self._inboxes.values())
        for inbox in inboxes:
            inbox.put(b"")


def _exactly(channel: "paramiko.Channel", count: int) -> bytes:
    """Read `count` bytes, fewer at the end. Raises TimeoutError after the channel's timeout."""
    data, deadline = b"", time.monotonic() + (channel.gettimeout() or float("inf"))
    while len(data) < count and (more := channel.recv(count - len(data))):
        data += more
        if time.monotonic() > deadline:
            raise TimeoutError
    return data
