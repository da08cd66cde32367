"""Neighbours of a node on the loopback, over TLS with client certificates, each with a fault to switch on: for the tests of fleet/weights_fetcher.

A faultless one answers as the real source does; test_roles_weights_source.py compares both with the real nginx.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from fleet.weights_fetcher import chunks
from tests.support import gateway_pki, http_server
from tests.support.weights_hub import REPOSITORY, REVISION

CHUNK = 1 << 16


def listed(data: bytes, have: int | None = None) -> dict[str, Any]:
    """Return the list of a file of which the first chunks are there, by default all."""
    digests = [hashlib.sha256(data[at : at + CHUNK]).hexdigest() for at in range(0, len(data), CHUNK)]
    have = len(digests) if have is None else have
    return {"size": len(data), "chunk": CHUNK, "digests": [*digests[:have], *[None] * (len(digests) - have)]}


class Source(http_server.LoopbackServer):
    """A neighbour with files. `log` has (path, Range) of its requests; faults are switches on it."""

    request_queue_size = 128

    def __init__(self, files: dict[str, bytes], certificate: pathlib.Path, authority: pathlib.Path) -> None:
        self.files = files
        self.lists: dict[str, Any] = {path: listed(data) for path, data in files.items()}
        self.claims: dict[str, dict[str, bool]] = {}  # in the summary, in place of {verified: true, hub: false}
        self.summary: bytes | None = None  # in place of the right one
        self.log: list[tuple[str, str]] = []
        self.status = 0  # of every answer
        self.busy = 0  # how many answers are 429
        self.cut: int | None = None  # bytes of a chunk after which it dies for good
        self.wrong: dict[str, bytes] = {}  # in place of the right bytes
        self.content_range = ""  # a wrong one
        self.huge = False  # every answer has more than was asked for
        self.pace = threading.Event()  # set: a byte in a while
        super().__init__(Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        self.tls = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the request's own thread: another client does not wait for it."""
        with self.tls.wrap_socket(request, server_side=True) as stream:
            super().finish_request(stream, client_address)

    def handle_error(self, *_: Any) -> None:
        """A client that goes is no error."""

    def list_of(self, name: str) -> bytes | None:
        """Return the list with this name, or the summary."""
        if name == chunks.SUMMARY:
            return self.summary or json.dumps(dict(self.entries())).encode()
        value = {chunks.list_name(path): value for path, value in self.lists.items()}.get(name)
        return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()

    def entries(self) -> Iterator[tuple[str, Any]]:
        """Yield the summary's entries: of a list of another form, as of the right one."""
        for path, value in self.lists.items():
            right = value if isinstance(value, dict) else listed(self.files[path])
            bits = sum(1 << index for index, digest in enumerate(right["digests"]) if digest)
            claims = {"verified": None not in right["digests"], "hub": False} | self.claims.get(path, {})
            yield chunks.list_name(path).removesuffix(".json"), {"have": f"{bits:x}", **claims}

    def bytes_of(self, path: str) -> bytes | None:
        return self.wrong.get(path, self.files.get(path))

    def asked(self, path: str) -> list[str]:
        """Return the ranges of the requests for a file."""
        return [ranges for url, ranges in self.log if url == f"/file/{path}"]


class FolderSource(Source):
    """A source of a node's folders as they are at each request, like the real one."""

    def __init__(self, folder: pathlib.Path, certificate: pathlib.Path, authority: pathlib.Path) -> None:
        super().__init__({}, certificate, authority)
        self.incoming = folder / REPOSITORY / f".incoming-{REVISION}"
        self.listed = folder / REPOSITORY / f".chunks-{REVISION}"

    def list_of(self, name: str) -> bytes | None:
        return _read(self.listed / name)

    def bytes_of(self, path: str) -> bytes | None:
        data = _read(self.incoming / path)
        return _read(self.incoming / f"{path}.part") if data is None else data


def _read(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class Handler(http_server.Handler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        source, path = self.server, urllib.parse.unquote(self.path)
        source.log.append((path, self.headers.get("Range", "")))
        if source.status:
            return self.reply(source.status)
        if path.startswith("/list/"):
            body = source.list_of(path[6:])
            if body is None:
                return self.reply(404)
            return self.reply(200, body + (b" " * 100_000 if source.huge else b""))
        if source.busy > 0:
            source.busy -= 1
            return self.reply(429)
        name = path.removeprefix("/file/")
        data = source.bytes_of(name)
        if data is None:
            return self.reply(404)
        return self.send(name, data)

    def send(self, name: str, data: bytes) -> None:
        source = self.server
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match
        start, end = int(match[1]), int(match[2])
        part = data[start:] if source.huge else data[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", source.content_range or f"bytes {start}-{end}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if source.cut is not None:
            self.wfile.write(part[: source.cut])
            source.status = 500
            self.close_connection = True
            return
        while source.pace.is_set() and part:
            self.wfile.write(part[:1])
            part = part[1:]
            if not source.pace.wait(0) or self.connection.fileno() < 0:
                break
            threading.Event().wait(0.1)
        self.wfile.write(part)


@dataclasses.dataclass(frozen=True)
class Pki:
    """The certificates of a stack in files: folder/ca.pem, folder/client.pem, folder/NAME.pem."""

    folder: pathlib.Path
    authority: gateway_pki.Authority

    @property
    def ca(self) -> pathlib.Path:
        return self.folder / "ca.pem"

    def server(self, name: str, authority: gateway_pki.Authority | None = None) -> pathlib.Path:
        """Make the certificate of a source."""
        file = self.folder / f"{name}.pem"
        file.write_text((authority or self.authority).sign("fleet-weights", gateway_pki.SERVER, name))
        return file


def pki(folder: pathlib.Path) -> Pki:
    """Make an authority, and the certificate that the nodes have as clients."""
    folder.mkdir(exist_ok=True)
    made = Pki(folder, gateway_pki.authority())
    made.ca.write_text(made.authority.pem)
    (folder / "client.pem").write_text(made.authority.sign("fleet-weights", gateway_pki.CLIENT))
    return made
