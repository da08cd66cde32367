"""Runs on the node, as root: forward many connections, in frames on stdin and stdout, to one unix socket. Called by relay.py with its path.

A frame is the number of a connection, the length of its data, both 32 bits, and the data. The first frame with a new number opens a
connection; one without data ends its direction; RESET instead of a length ends both. Frame 0 reports that the program runs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading

HEAD = struct.Struct(">II")
RESET = 0xFFFFFFFF
connections: dict[int, socket.socket | None] = {}
output = threading.Lock()


def send(number: int, data: bytes = b"") -> None:
    """Write one frame; several threads may call this."""
    frame = HEAD.pack(number, len(data)) + data
    with output:
        while frame:
            frame = frame[os.write(1, frame) :]


def forward_answer(number: int, service: socket.socket) -> None:
    """Send the service's data as frames until it ends."""
    with contextlib.suppress(OSError):  # the service closed its side: the connection ends here, too
        while data := service.recv(1 << 15):
            send(number, data)
    send(number)


def connect(number: int, path: str) -> socket.socket | None:
    """Connect to the service and return the socket, or end the connection and return None if nobody listens."""
    service = socket.socket(socket.AF_UNIX)
    try:
        service.connect(path)
    except OSError:
        service.close()
        send(number)
        return None
    threading.Thread(target=forward_answer, args=(number, service), daemon=True).start()
    return service


def handle(number: int, length: int, data: bytes, path: str) -> None:
    """Process one frame."""
    if length == RESET:
        service = connections.pop(number, None)
        if service:
            service.shutdown(socket.SHUT_RDWR)
            service.close()
        return
    if number not in connections:
        connections[number] = connect(number, path)
    service = connections[number]
    if service and data:
        service.sendall(data)
    elif service:
        service.shutdown(socket.SHUT_WR)


def exactly(count: int) -> bytes:
    """Read `count` bytes of stdin; fewer at its end."""
    data = b""
    while len(data) < count and (more := os.read(0, count - len(data))):
        data += more
    return data


def main(path: str) -> None:
    """Process frames until the input ends."""
    send(0)
    while len(head := exactly(HEAD.size)) == HEAD.size:
        number, length = HEAD.unpack(head)
        data = exactly(0 if length == RESET else length)
        with contextlib.suppress(OSError):  # the service ended first, as `forward_answer` reports
            handle(number, length, data, path)
