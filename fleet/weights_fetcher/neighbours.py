"""One neighbour: the requests for its lists and chunks over mutual TLS, and what it did wrong. Every answer is untrusted until checked here.

A neighbour that fails rests, longer each time; one that lies is dropped for the rest of the run. Both are printed once, with the node, the
file and what was seen. Needs the source of roles/weights/templates/nginx.conf.j2 at the other end. Called by swarm.py.
"""

import dataclasses
import hashlib
import http.client
import json
import pathlib
import socket
import ssl
import time
import urllib.parse

from . import chunks
from .download import range_start
from .model import Wrong, plain, read_json

SILENCE = 20  # seconds without a byte of an answer
LONGEST_CHUNK = 60  # seconds for one chunk: a source that is slower is dropped
LONGEST_REST = 30  # seconds
BUSY = (429, 503)  # as many connections as it serves are open
PIECE = 1 << 18
MOST_LINES = 5  # about one neighbour that fails and answers again

Connections = dict[str, http.client.HTTPSConnection]  # of one thread, by neighbour


class Lie(Exception):
    """A neighbour that sent what it must not. The text is what was seen."""


class Slow(OSError):
    """A neighbour that sends a chunk too slowly."""


class Busy(OSError):
    """A neighbour that serves as many others as it may."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One node of the stack as the role names it: `first` of those that take files from the hub for all others."""

    name: str
    address: str
    port: int
    first: bool


def read_places(path: pathlib.Path) -> list[Place]:
    """Return the nodes in the file that the role wrote. Raises Wrong."""
    try:
        value = read_json(path.read_bytes())
        if not isinstance(value, list):
            raise ValueError("another form")
        return [Place(**{field.name: one[field.name] for field in dataclasses.fields(Place)}) for one in value]
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise Wrong(f"{path}: not a list of nodes: {problem}") from None


def context(folder: pathlib.Path) -> ssl.SSLContext:
    """Return the TLS of this node as a client: its certificate, and the stack's authority alone. Raises OSError."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_verify_locations(folder / "ca.pem")
    tls.load_cert_chain(folder / "client.pem")
    return tls


class Connection(http.client.HTTPSConnection):
    """To the address of a neighbour, whose certificate must have its name."""

    def __init__(self, place: Place, tls: ssl.SSLContext) -> None:
        super().__init__(place.name, timeout=SILENCE, context=tls)
        self.place, self.tls = place, tls

    def connect(self) -> None:
        plain_socket = socket.create_connection((self.place.address, self.place.port), SILENCE)
        plain_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.sock = self.tls.wrap_socket(plain_socket, server_hostname=self.place.name)
        except (OSError, ValueError):
            plain_socket.close()
            raise


class Neighbour:
    """What this node knows of one neighbour. The swarm's lock guards all attributes but during requests."""

    def __init__(self, place: Place, tls: ssl.SSLContext) -> None:
        self.place, self.name, self.tls = place, place.name, tls
        self.summary: dict[str, chunks.Has] = {}  # by name of the list
        self.lists: dict[str, list[str | None]] = {}  # the digests of files, by path
        self.barred: set[str] = set()  # files whose list was wrong
        self.dropped = ""  # why it is asked nothing more
        self.first = self.answered = 0.0  # when it answered for the first time, and when the last time (monotonic)
        self.moved: dict[str, float] = {}  # when it last had a new chunk of a file
        self.rests_until, self.failures, self.open, self.bytes = 0.0, 0, 0, 0
        self.lines = 0  # how often it was printed that it fails

    def usable(self, path: str) -> "chunks.Has | None":
        """Return what it has of a file, if it may be asked for chunks of that."""
        return None if self.dropped or path in self.barred else self.summary.get(chunks.list_name(path))

    def drop(self, file: str, seen: str) -> None:
        """Ask it nothing more in this run, and say why."""
        if not self.dropped:
            self.dropped = seen
            print(f"{self.name} is dropped: {file}: {plain(seen, 300)}", flush=True)

    def bar(self, file: str, seen: str) -> None:
        """Do not use it for one file. It had not verified the file itself; a second one drops it."""
        self.barred.add(file)
        if len(self.barred) > 1:
            return self.drop(file, seen)
        print(f"{self.name} is not used for {file}: {plain(seen, 300)}", flush=True)

    def fails(self, file: str, problem: Exception) -> None:
        """Let it rest, longer after each failure; print the first of a row."""
        pause = 0.3 if isinstance(problem, Busy) else min(2.0**self.failures, LONGEST_REST)
        self.rests_until = time.monotonic() + pause
        if isinstance(problem, Busy):
            self.answered = time.monotonic()
            return
        self.failures += 1
        if self.failures == 1 and self.lines < MOST_LINES:
            self.lines += 1
            print(f"{self.name} rests: {file}: {plain(problem or type(problem).__name__, 300)}", flush=True)

    def works(self) -> None:
        """Note an answer."""
        if self.failures and self.lines < MOST_LINES:
            print(f"{self.name} answers again", flush=True)
        self.answered, self.failures = time.monotonic(), 0
        self.first = self.first or self.answered

    def learn(self, summary: dict[str, chunks.Has]) -> bool:
        """Note its new summary. Return whether it has more than the one before."""
        more = False
        for name, has in summary.items():
            before = self.summary.get(name)
            new = before is None or has.count() > before.count()
            more = more or new
            if new or (before and has.hub > before.hub):
                self.moved[name] = time.monotonic()
        self.summary = summary
        return more

    def ask(self, connections: Connections, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send a request; once more if an idle connection was closed meanwhile. Raises Lie, OSError, HTTPException."""
        old = connections.pop(self.name, None)
        for connection in (*([old] if old else []), Connection(self.place, self.tls)):
            try:
                connection.request("GET", urllib.parse.quote(url), headers=headers)
                answer = connection.getresponse()
            except ssl.SSLCertVerificationError as problem:
                raise Lie(f"{self.place.address}:{self.place.port}: {problem.verify_message}") from None
            except (OSError, http.client.HTTPException):
                connection.close()
                if connection is not old:
                    raise
                continue
            connections[self.name] = connection
            return answer
        raise AssertionError("a new connection answers or raises")

    def read_summary(self, connections: Connections, counts: dict[str, int]) -> dict[str, chunks.Has]:
        """Return what it has of files with these lists. Raises Lie, OSError, HTTPException."""
        try:
            return chunks.read_summary(self._read(connections, chunks.SUMMARY, chunks.LONGEST_SUMMARY) or b"{}", counts)
        except ValueError as problem:
            raise Lie(f"its summary {problem}") from None

    def read_list(self, connections: Connections, path: str, size: int, chunk: int) -> "list[str | None] | None":
        """Return the digests of a file's chunks; None without a list. Raises Lie, OSError, HTTPException."""
        try:
            data = self._read(connections, chunks.list_name(path), chunks.longest(size, chunk))
            return data and chunks.read_list(data, size, chunk)  # type: ignore[return-value]
        except ValueError as problem:
            raise Lie(f"its list {problem}") from None

    def _read(self, connections: Connections, name: str, most: int) -> "bytes | None":
        answer = self.ask(connections, f"/list/{name}", {})
        if answer.status not in (200, 404):
            raise self.refusal(connections, answer)
        data = answer.read(most + 1)
        if len(data) > most:
            connections.pop(self.name).close()
            raise ValueError("is too long")
        return data if answer.status == 200 else None

    def read_chunk(
        self, connections: Connections, path: str, file: chunks.Chunks, index: int
    ) -> "tuple[bytearray, str] | None":
        """Return one chunk and its sha256; None if it has the file no more. Raises Lie, OSError, HTTPException."""
        start, length = file.span(index)
        answer = self.ask(connections, f"/file/{path}", {"Range": f"bytes={start}-{start + length - 1}"})
        if answer.status == 404:
            answer.read(PIECE)
            return None
        if answer.status not in (200, 206):
            raise self.refusal(connections, answer)
        # a file of one chunk may be answered as a whole
        right = range_start(answer) == start if answer.status == 206 else length == file.size
        if not right or answer.headers.get("Content-Length") != str(length):
            connections.pop(self.name).close()
            raise Lie(f"{plain(answer.headers.get('Content-Range'), 60)} in place of {length} bytes from {start}")
        data, have, digest = bytearray(length), 0, hashlib.sha256()
        end = time.monotonic() + LONGEST_CHUNK
        view = memoryview(data)
        while have < length:
            count = answer.readinto(view[have : have + PIECE])
            late = time.monotonic() > end
            if not count or late:
                connections.pop(self.name).close()
                seen = f"{have} of {length} bytes of chunk {index}"
                raise Slow(f"{seen} after {LONGEST_CHUNK} s") if late else OSError(seen)
            digest.update(view[have : have + count])
            have += count
        answer.read()  # its end
        return data, digest.hexdigest()

    def refusal(self, connections: Connections, answer: http.client.HTTPResponse) -> OSError:
        """Return the error of another answer."""
        if answer.status in BUSY:
            answer.read(PIECE)  # the connection stays
            return Busy("busy")
        connections.pop(self.name).close()
        return OSError(f"it answers {answer.status} {plain(answer.reason, 40)}")


def write_places(path: pathlib.Path, places: list[Place]) -> None:
    """Write the file that `read_places` reads, for tests and the benchmark."""
    path.write_text(json.dumps([dataclasses.asdict(place) for place in places]))
