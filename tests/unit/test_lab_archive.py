"""The site's mirror of the distributions' archives, between a client and an origin, all on the loopback."""

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SITE = Path(__file__).resolve().parents[2] / "lab" / "images" / "site" / "archive.py"


class Origin(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; knows If-Modified-Since."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """An archive with one file."""
    (tmp_path / "dists").mkdir()
    (tmp_path / "dists" / "InRelease").write_bytes(b"Origin: test\n" * 1000)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *words: Origin(*words, directory=str(tmp_path))  # type: ignore[arg-type]
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Request)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_passed_on_and_what_a_client_has_is_not_sent_again(mirror: str, origin: str) -> None:
    with httpx.Client() as client:
        first = client.get(f"{mirror}/http/{origin}/dists/InRelease")
        assert (first.status_code, first.content) == (200, b"Origin: test\n" * 1000)
        known = {"If-Modified-Since": first.headers["Last-Modified"]}
        again = client.get(f"{mirror}/http/{origin}/dists/InRelease", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert client.head(f"{mirror}/http/{origin}/dists/InRelease").headers["Content-Length"] == "13000"


def test_what_the_origin_does_not_have_the_mirror_does_not_have(mirror: str, origin: str) -> None:
    assert httpx.get(f"{mirror}/http/{origin}/dists/Release").status_code == 404


def test_an_origin_that_does_not_answer_is_told(mirror: str, origin: str) -> None:
    answer = httpx.get(f"{mirror}/http/127.0.0.1:1/dists/Release")
    assert answer.status_code == 502 and "127.0.0.1:1" in answer.text
