"""A local listener whose connections come out at a unix socket of a node, through one command there.

sshd can connect to sockets too, but as the user who logs in, who may not reach the socket where root is had by sudo; and each command would be
one of the ten sessions that sshd allows. Owns the listener's threads and ends them on exit; on_node_relay.py is the other end.
Called by ssh.Connection.forward.
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

from fleet.ssh import tunnel

if TYPE_CHECKING:
    import paramiko

SCRIPT = Path(__file__).with_name("on_node_relay.py")
# Reads the program from its input up to a zero byte; the frames follow there.
COMMAND = '/usr/bin/python3 -I -c \'import os; exec(b"".join(iter(lambda: os.read(0, 1), b"\\0")))\''
HEAD = struct.Struct(">II")
RESET = 0xFFFFFFFF
FRAME = 1 << 15  # bytes of data in a frame, of both ends
WAITING = 2048  # frames that a client which does not read may leave waiting; then its connection ends


def begin(channel: "paramiko.Channel", path: str, timeout: float = 15) -> str:
    """Send the program to COMMAND and wait until it runs. Returns "", or the last words of one that does not run."""
    channel.settimeout(timeout)
    channel.sendall(f"{SCRIPT.read_text()}\nmain({path!r})\n\0".encode())
    try:
        head = _exactly(channel, HEAD.size)
    except TimeoutError:
        return f"no word within {timeout:g} s"
    if head == HEAD.pack(0, 0):
        channel.settimeout(None)
        return ""
    words = channel.makefile_stderr("r").read(1 << 12)
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    return (text.strip().splitlines() or ["it ended"])[-1]


class Listener(tunnel.Loopback):
    """Listens on 127.0.0.1:`local` (0 = any free port); `channel` is that of a program which has begun."""

    def __init__(self, channel: "paramiko.Channel", local: int = 0) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, queue.SimpleQueue[bytes]] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._receiver = threading.Thread(target=self._receive, name="forward")
        super().__init__(local)

    def start(self) -> None:
        """Start to carry."""
        self._receiver.start()

    def stop(self) -> None:
        """End the program, and with it every connection."""
        ended = self.broken
        self._channel.close()
        self._receiver.join()
        self.broken = ended

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Carry one connection, in a thread of its own."""
        number, inbox = next(self._numbers), queue.SimpleQueue[bytes]()
        with self._lock:
            if self.broken:
                return
            self._inboxes[number] = inbox
        asking = threading.Thread(target=self._ask, args=(number, request), name="forward")
        asking.start()
        with contextlib.suppress(OSError):  # the client is gone
            while data := inbox.get():
                request.sendall(data)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # `_ask` reads no more
        asking.join()
        with self._lock:
            del self._inboxes[number]
        self._send(number, RESET)

    def _ask(self, number: int, client: socket.socket) -> None:
        """Send on what the client says until it ends."""
        with contextlib.suppress(OSError):
            while data := client.recv(FRAME):
                self._send(number, len(data), data)
        self._send(number, 0)

    def _send(self, number: int, length: int, data: bytes = b"") -> None:
        with self._sending, contextlib.suppress(OSError):  # the program has ended, which `_receive` sees too
            self._channel.sendall(HEAD.pack(number, length) + data)

    def _receive(self) -> None:
        """Give every client what comes for it, until the program ends or says what is no frame."""
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
    """Read so many bytes, fewer at the end; TimeoutError when the channel's time is over."""
    data, deadline = b"", time.monotonic() + (channel.gettimeout() or float("inf"))
    while len(data) < count and (more := channel.recv(count - len(data))):
        data += more
        if time.monotonic() > deadline:
            raise TimeoutError
    return data
