"""A few bytes served over HTTP while they are needed: a seed, for the BMC that shows it to its machine as a medium.

Owns the port for as long as anything lies on it; machines that are installed side by side share it. A path has a secret in it, and no
index tells it. Called by install.
"""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus

from fleet import errors

_lock = threading.Lock()
_open: "dict[str, _Shelf]" = {}


@contextlib.contextmanager
def serving(node: str, address: str, things: dict[str, bytes]) -> Iterator[None]:
    """Serve things by path on ADDRESS:PORT of this machine; FleetError where that cannot be listened on."""
    with _lock:
        shelf = _open.get(address) or _listen(node, address)
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

    def __init__(self, host: str, port: int) -> None:
        self.things: dict[str, bytes] = {}
        self.users = 0
        super().__init__((host, port), _Handler)
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
        elif asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = _range(asked[1], asked[2], len(thing))
            if first > last:
                self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", body, f"bytes */{len(thing)}")
                return
            where = f"bytes {first}-{last}/{len(thing)}"
            self._say(HTTPStatus.PARTIAL_CONTENT, thing[first : last + 1], body, where)
        else:
            self._say(HTTPStatus.OK, thing, body)

    def _say(self, code: HTTPStatus, content: bytes, body: bool, where: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        if where:
            self.send_header("Content-Range", where)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the path is a secret."""


def _listen(node: str, address: str) -> _Shelf:
    host, _, port = address.rpartition(":")
    try:
        return _Shelf(host.strip("[]"), int(port))
    except OSError as error:
        raise errors.FleetError(
            node=node,
            doing=f"serve its seed at {address}",
            seen=str(error.strerror).lower(),
            wanted="an address and free port of this machine, which the BMCs reach",
            next="correct `serve` in the stack file",
        ) from error


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the first and last byte that a Range asks for; first beyond last where there are none."""
    if not first:
        return (size - int(last), size - 1) if last and 0 < int(last) <= size else (0, size - 1) if last else (1, 0)
    return int(first), min(int(last), size - 1) if last else size - 1
