"""Serves installers and seeds over HTTPS or HTTP to the BMCs, which show them to their machines as media.

Owns the port while something is served on it; machines that are installed side by side share it. Paths contain a secret, and there is no
index. Called by install.
"""

import contextlib
import http.server
import io
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

from fleet import errors

BLOCK = 1 << 20
_lock = threading.Lock()
_servers: "dict[str, _Server]" = {}


@contextlib.contextmanager
def serving(node: str, address: str, contents: Mapping[str, bytes | Path], certificate: str = "") -> Iterator[None]:
    """Serve bytes and files by path on ADDRESS:PORT of this machine; `certificate` is a PEM file with certificate and key, "" for HTTP.

    Raises FleetError where the address cannot be used or the certificate cannot be read.
    """
    with _lock:
        server = _servers.get(address) or _listen(node, address, certificate)
        _servers[address] = server
        server.contents.update(contents)
        server.users += 1
    try:
        yield
    finally:
        with _lock:
            server.users -= 1
            for path in contents:
                server.contents.pop(path, None)
            if not server.users:
                del _servers[address]
                server.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # a BMC may keep a connection open for hours

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self.contents: dict[str, bytes | Path] = {}
        self.users = 0
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        if context is not None:  # each connection's own thread does the handshake, with its first read
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="seeds", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD, whole or one range: a BMC requests the parts that its machine reads."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.server.contents.get(self.path.partition("?")[0])
        if content is None:
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if bounds := re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", self.headers.get("Range", "")):
            first, last = _range(bounds[1], bounds[2], size)
            if first > last:
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", f"bytes */{size}")
            else:
                part = f"bytes {first}-{last}/{size}"
                self._send(HTTPStatus.PARTIAL_CONTENT, content, part, first, last + 1 - first)
        else:
            self._send(HTTPStatus.OK, content, length=size)

    do_HEAD = do_GET

    def _send(self, code: HTTPStatus, content: bytes | Path, part: str = "", first: int = 0, length: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as stream:
            stream.seek(first)
            while self.command != "HEAD" and length > 0 and (block := stream.read(min(BLOCK, length))):
                self.wfile.write(block)
                length -= len(block)

    def log_message(self, *_: object) -> None:
        """Log nothing: the path is a secret."""


def _listen(node: str, address: str, certificate: str) -> _Server:
    host, _, port = address.rpartition(":")
    context = _context(node, certificate) if certificate else None
    try:
        return _Server(host.strip("[]"), int(port), context)
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
    """Return the first and last byte of a Range header; first > last where it selects none."""
    if not first:
        return (size - int(last), size - 1) if last and 0 < int(last) <= size else (0, size - 1) if last else (1, 0)
    return int(first), min(int(last), size - 1) if last else size - 1
