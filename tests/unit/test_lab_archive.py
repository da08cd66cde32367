"""The site's mirror of the distributions' archives, between a client and an origin, all on the loopback."""

import functools
import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SITE = Path(__file__).resolve().parents[2] / "lab" / "images" / "site" / "archive.py"


class Origin(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with If-Modified-Since."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(handler: Any) -> Iterator[str]:
    """Serve on a free port; yield the address, close the server afterwards."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """An archive with one file."""
    (tmp_path / "dists").mkdir()
    (tmp_path / "dists" / "InRelease").write_bytes(b"Origin: test\n" * 1000)
    yield from serve(functools.partial(Origin, directory=str(tmp_path)))


@pytest.fixture
def mirror() -> Iterator[str]:
    """The site's mirror."""
    spec = importlib.util.spec_from_file_location("archive", SITE)
    assert spec and spec.loader
    archive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(archive)

    class Request(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            archive.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for address in serve(Request):
        yield f"http://{address}"


def test_the_mirror_sends_a_file_of_the_origin_once_to_a_client(mirror: str, origin: str) -> None:
    url = f"{mirror}/http/{origin}/dists/InRelease"
    first = httpx.get(url)
    assert (first.status_code, first.content) == (200, b"Origin: test\n" * 1000)
    again = httpx.get(url, headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.head(url).headers["Content-Length"] == "13000"


def test_the_mirror_has_no_file_that_the_origin_lacks(mirror: str, origin: str) -> None:
    assert httpx.get(f"{mirror}/http/{origin}/dists/Release").status_code == 404


def test_the_mirror_reports_an_origin_that_does_not_answer(mirror: str) -> None:
    answer = httpx.get(f"{mirror}/http/127.0.0.1:1/dists/Release")
    assert answer.status_code == 502 and "127.0.0.1:1" in answer.text
