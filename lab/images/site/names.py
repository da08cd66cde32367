"""The site's name server, for the pods of a cluster: they have no /etc/hosts with the site's names, as nodes have.

Answers *.lab.internal with the site's own address, and any other name with NXDOMAIN. Called by site.py.
"""

import socket
import socketserver
import struct

PORT = 53
HEADER = struct.Struct("!6H")  # id, flags, counts of questions, answers, authorities, additions
ANSWER = 0x8180  # a response, recursion desired and available
NO_SUCH_NAME = 3
A, INTERNET = 1, 1
SECONDS = 60  # that a client may keep an answer
IN_THE_QUESTION = 0xC000 | HEADER.size  # a pointer to the question's name


class Query(socketserver.BaseRequestHandler):
    """One datagram with one question."""

    def handle(self) -> None:
        data, own = self.request
        if response := answer(data, self.server.domain, _address_before(self.client_address)):  # type: ignore[attr-defined]
            own.sendto(response, self.client_address)


class Server(socketserver.ThreadingUDPServer):
    """The name server of a domain."""

    daemon_threads = True

    def __init__(self, domain: str) -> None:
        super().__init__(("", PORT), Query)
        self.domain = domain


def answer(data: bytes, domain: str, address: str) -> bytes:
    """Return the response to a query, or nothing for what is no query."""
    if len(data) < HEADER.size:
        return b""
    number, flags, questions, *_ = HEADER.unpack_from(data)
    labels, end = _name(data)
    if flags & 0x8000 or questions != 1 or len(data) < end + 4:
        return b""
    kind, group = struct.unpack_from("!2H", data, end)
    question = data[HEADER.size : end + 4]
    if ".".join(labels[-2:]).lower() != domain:
        return HEADER.pack(number, ANSWER | NO_SUCH_NAME, 1, 0, 0, 0) + question
    if (kind, group) != (A, INTERNET):  # the name is there, and has nothing of this kind
        return HEADER.pack(number, ANSWER, 1, 0, 0, 0) + question
    record = struct.pack("!3HIH", IN_THE_QUESTION, A, INTERNET, SECONDS, 4) + socket.inet_aton(address)
    return HEADER.pack(number, ANSWER, 1, 1, 0, 0) + question + record


def _name(data: bytes) -> tuple[list[str], int]:
    """Return the labels of the question's name, and where it ends."""
    labels, at = [], HEADER.size
    while at < len(data) and data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii", "replace"))
        at += 1 + data[at]
    return labels, at + 1


def _address_before(client: tuple[str, int]) -> str:
    """Return the site's address in the client's network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect(client)
        return str(way.getsockname()[0])
