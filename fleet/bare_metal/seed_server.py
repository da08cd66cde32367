"""An installer and its seed served while they are needed, over HTTPS or HTTP: for the BMC that shows them to its machine as media.

Owns the port for as long as anything lies on it; machines that are installed side by side share it. A path has a secret in it, and no
index tells it. Called by install.
"""

import contextlib
import http.server
import io
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

from fleet import errors

BLOCK = 1 << 20
_lock = threading.Lock()
_open: "dict[str, _Shelf]" = {}


@contextlib.contextmanager
def serving(node: str, address: str, things: Mapping[str, bytes | Path], certificate: str = "") -> Iterator[None]:
    """Serve bytes and files by path on ADDRESS:PORT of this machine; `certificate` is a PEM file with certificate and key, "" for HTTP.

    Raises FleetError where that cannot be listened on, or the certificate cannot be read.
    """
    with _lock:
        shelf = _open.get(address) or _listen(node, address, certificate)
        _open[address] = shelf
        shelf.things.update(things)
        shelf.users += 1
    try:
        yield
    finally:
        with _lock:
            shelf.users -= 1
            for path in things:
                shelf.things.pop(path, None)
            if not shelf.users:
                del _open[address]
                shelf.close()


class _Shelf(http.server.ThreadingHTTPServer):
    daemon_threads = True  # a BMC may hold a connection open for as long as it likes

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self.things: dict[str, bytes | Path] = {}
        self.users = 0
        super().__init__((host, port), _Handler)
        if context is not None:  # the handshake comes with the first read, in the connection's own thread
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="shelf", daemon=True).start()

    def close(self) -> None:
        """End the listener."""
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """GET and HEAD, whole or one range: BMCs read the parts that the machine reads."""

    server: _Shelf
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, body: bool) -> None:
        thing = self.server.things.get(self.path.partition("?")[0])
        if thing is None:
            self._say(HTTPStatus.NOT_FOUND, b"", body)
            return
        size = thing.stat().st_size if isinstance(thing, Path) else len(thing)
        if asked := re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", self.headers.get("Range", "")):
            first, last = _range(asked[1], asked[2], size)
            if first > last:
                self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", body, f"bytes */{size}")
            else:
                where = f"bytes {first}-{last}/{size}"
                self._say(HTTPStatus.PARTIAL_CONTENT, thing, body, where, first, last + 1 - first)
        else:
            self._say(HTTPStatus.OK, thing, body, length=size)

    def _say(
        self, code: HTTPStatus, thing: bytes | Path, body: bool, where: str = "", first: int = 0, length: int = 0
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        if where:
            self.send_header("Content-Range", where)
        self.end_headers()
        with thing.open("rb") if isinstance(thing, Path) else io.BytesIO(thing) as content:
            content.seek(first)
            while body and length > 0 and (block := content.read(min(BLOCK, length))):
                self.wfile.write(block)
                length -= len(block)

    def log_message(self, *_: object) -> None:
        """Nothing: the path is a secret."""


def _listen(node: str, address: str, certificate: str) -> _Shelf:
    host, _, port = address.rpartition(":")
    context = _context(node, certificate) if certificate else None
    try:
        return _Shelf(host.strip("[]"), int(port), context)
    except OSError as error:
        raise errors.FleetError(
            node=node,
            doing=f"serve its installer at {address}",
            seen=str(error.strerror).lower(),
            wanted="an address and free port of this machine, which the BMCs reach",
            next="correct `serve` in the stack file",
        ) from error


def _context(node: str, certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(Path(certificate).expanduser())
    except (OSError, ssl.SSLError) as error:
        raise errors.FleetError(
            node=node,
            doing=f"read the certificate {certificate}",
            seen=str(error.strerror or error).lower(),
            wanted="a PEM file with the certificate for `serve` and its key",
            next="correct `serve_certificate` in the stack file",
        ) from error
    return context


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the first and last byte that a Range asks for; first beyond last where there are none."""
    if not first:
        return (size - int(last), size - 1) if last and 0 < int(last) <= size else (0, size - 1) if last else (1, 0)
    return int(first), min(int(last), size - 1) if last else size - 1
