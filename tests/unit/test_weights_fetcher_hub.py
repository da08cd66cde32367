"""A hostile or broken hub (fleet/weights_fetcher/hub.py, download.py): the fetch accepts no wrong answer, and ends in one message.

The hub is on loopback. Refusals and waits: test_weights_fetcher_retries.py; fuzzed answers: test_weights_fetcher_fuzz.py.
"""

import pathlib
from typing import Any

import pytest

from fleet.weights_fetcher import hub as hub_client
from fleet.weights_fetcher import model as model_folder
from tests.support import weights_hub
from tests.support.weights_hub import BIG, REPOSITORY, REVISION, SMALL, Hub, Node

Wrong = model_folder.Wrong


@pytest.fixture
def half(node: Node, hub: Hub) -> bytes:
    """The first 500,000 bytes of the large file, which an earlier fetch left."""
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(hub.files[BIG][:500_000])
    return hub.files[BIG][:500_000]


@pytest.fixture
def client(hub: Hub) -> Any:
    return hub_client.Hub(hub.url, REPOSITORY, REVISION, "")


# Bytes


@pytest.mark.usefixtures("half")
def test_a_server_that_ignores_range_is_read_from_the_beginning(node: Node, hub: Hub) -> None:
    hub.deaf = True
    process = node.fetch()
    assert process.returncode == 0, process.stdout
    assert hub.ranges(BIG) == ["bytes=500000-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_server_that_ignores_range_and_disconnects_exhausts_the_patience(node: Node, hub: Hub) -> None:
    """The same first bytes again and again are no progress."""
    hub.deaf, hub.cuts[BIG] = True, 100
    process = node.fetch()
    assert process.returncode == 1
    assert f"{BIG}: the connection ended at 1000000 of 3000000 bytes (2 s without a byte)" in process.stdout


def test_a_page_in_place_of_a_file_is_not_written(node: Node, hub: Hub) -> None:
    """A network's login page: 200, and text for a person."""
    hub.served[BIG] = b"<!DOCTYPE html><p>Log in"
    process = node.fetch()
    assert process.returncode == 1
    assert f"{BIG}: an answer of 24 bytes, wanted 3000000 (2 s without a byte)" in process.stdout
    assert node.part.stat().st_size == 0


def test_a_page_in_place_of_a_file_keeps_what_was_fetched(node: Node, hub: Hub, half: bytes) -> None:
    hub.served[BIG], hub.deaf = b"<!DOCTYPE html><p>Log in", True
    assert f"{BIG}: an answer of 24 bytes, wanted 3000000" in node.fetch().stdout
    assert node.part.read_bytes() == half


def test_bytes_of_another_range_are_not_written(node: Node, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_hub.Handler, "RANGE", "bytes 0-2499999/3000000")
    assert f"{BIG}: other bytes than those from 500000 on" in node.fetch().stdout
    assert node.part.read_bytes() == half


def test_a_model_that_does_not_fit_the_disk_is_refused_before_a_byte_is_requested(node: Node, hub: Hub) -> None:
    huge = {"oid": "0" * 64, "size": 1 << 49}
    hub.entries = [{"type": "file", "path": "huge.safetensors", "size": 1, "oid": "0" * 40, "lfs": huge}]
    process = node.fetch()
    assert process.returncode == 1
    assert "no space left" in process.stdout and "562950.0 GB are needed" in process.stdout
    assert [path for path, _, _ in hub.log if "/resolve/" in path] == []


# The list


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("../../etc/passwd", "is outside the model's folder: ../../etc/passwd"),
        ("/etc/cron.d/x", "is outside the model's folder: /etc/cron.d/x"),
        ("a//b", "is outside the model's folder"),
        ("a/./b", "is outside the model's folder"),
        ("a\\b", "has characters that no file name needs"),
        ("a\n\u001b]52;c;\u0007", "has characters that no file name needs: a??]52;c;?"),
        ("a\ud800", "has characters that no file name needs"),
        ("x" * 300, "is too long"),
        ("y/" * 600 + "z", "is too long"),
        ("model.safetensors.part", "ends with .part, like the fetch's unfinished files"),
        ("", "is not a name"),
        (None, "is not a name"),
        (["a"], "is not a name"),
    ],
)
def test_a_name_outside_of_the_models_folder_is_refused(hub: Hub, client: Any, path: Any, seen: str) -> None:
    hub.entries = [{"type": "file", "path": path, "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong) as caught:
        client.tree()
    assert str(caught.value).startswith(f"the hub names a file that {seen}") and str(caught.value).isprintable()


def test_an_absolute_path_of_a_hub_is_never_written(node: Node, hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.files[str(tmp_path / "planted")] = b"x"
    assert node.fetch().returncode == 1
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ({"size": -1}, "gives no size: -1"),
        ({"size": True}, "gives no size: True"),
        ({"size": "3"}, "gives no size: 3"),
        ({"size": 1 << 60}, "gives no size"),
        ({"oid": "xyz"}, "gives no checksum: xyz"),
        ({"oid": None}, "gives no checksum: None"),
        ({"lfs": []}, "gives no checksum: []"),
        ({"lfs": {"oid": "0" * 40, "size": 1}}, "gives no checksum"),
        ({"lfs": {"oid": "0" * 64}}, "gives no size: None"),
        ({"type": 3}, "an entry of unknown form"),
    ],
)
def test_an_entry_of_another_form_is_refused(entry: dict[str, Any], seen: str) -> None:
    with pytest.raises(Wrong) as caught:
        hub_client.read_file({"type": "file", "path": "a.json", "size": 1, "oid": "0" * 40, **entry})
    assert seen in str(caught.value)


@pytest.mark.parametrize(
    "page",
    [
        *(b"", b"<!DOCTYPE html>", b"{}", b"null", b"[[]]", b"[" * 100_000, b"\xff\xfe"),
        *(b"[" + b"9" * 5000 + b"]", b'"\x1b[2J"'),
    ],
)
def test_a_page_that_is_no_list_of_files_is_one_message(node: Node, hub: Hub, page: bytes) -> None:
    hub.page = page
    process = node.fetch()
    assert process.returncode == 1
    line = process.stdout.rstrip("\n")
    assert ("no list of files" in line or "of unknown form" in line) and "\n" not in line and line.isprintable()


def test_a_duplicate_name_or_one_of_file_and_folder_is_refused(hub: Hub, client: Any) -> None:
    hub.entries = [{"type": "file", "path": SMALL, "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong, match="names a file twice"):
        client.tree()
    hub.entries = [{"type": "file", "path": f"{SMALL}/x", "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong, match=f"names {SMALL} as a file and as a folder"):
        client.tree()


def test_a_manifest_of_the_repositorys_own_is_not_fetched(node: Node, hub: Hub) -> None:
    """Our record has that name: each check would refuse the other, for ever."""
    hub.files["manifest.json"] = b"{}"
    assert node.fetch().returncode == 0
    assert node.check()["ready"] and "manifest.json" not in node.manifest()["files"]
    assert hub.ranges("manifest.json") == []


@pytest.mark.parametrize(
    "link", ["file:///etc/shadow", "https://other.example/list", "ftp://127.0.0.1/x", "http://[", "//x"]
)
def test_the_next_page_of_the_list_is_at_the_same_server(hub: Hub, client: Any, link: str) -> None:
    hub.next = f'<{link}>; rel="next"'
    with pytest.raises(Wrong):
        client.tree()
    assert len(hub.log) == 1


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ('</next?cursor=2>; rel="next"', "https://hub.example/next?cursor=2"),
        ('<https://hub.example:443/n>; title="x"; rel=next', "https://hub.example:443/n"),
        ('<https://other.example/p>; rel="prev"', ""),
    ],
)
def test_the_next_page_of_the_list_is_that_of_the_links_header(link: str, page: str) -> None:
    assert hub_client.next_page(link, "https://hub.example/a") == page


def test_an_endless_list_is_refused(hub: Hub, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "MOST_PAGES", 5)
    hub.page, hub.next = b"[]", f'<{hub.url}/api/models/{REPOSITORY}/tree/{REVISION}>; rel="next"'
    with pytest.raises(Wrong, match="does not end"):
        client.tree()
    assert len(hub.log) == 5


def test_a_redirect_of_the_list_to_another_server_is_refused(
    hub: Hub, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with weights_hub.serve() as other:

        def answer(request: Any) -> None:
            redirect = request.server is hub
            location = {"Location": f"{other.url}{request.path}"}
            request.reply(302, b"", **location) if redirect else request.reply(200, b"[]")

        monkeypatch.setattr(weights_hub.Handler, "do_GET", answer)
        with pytest.raises(Wrong, match="redirected to another server"):
            client.tree()


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://[", "gopher://x", "http:///x"]
)
def test_a_redirect_to_another_kind_of_url_is_refused(
    hub: Hub, client: Any, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_hub.Handler, "do_GET", lambda self: self.reply(302, b"", Location=location))
    with pytest.raises(Wrong):
        client.file(SMALL, 0)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    redirects = hub_client.Redirects(("https", "hub.example", 443))
    request = hub_client.urllib.request.Request("https://hub.example/a", headers={"Authorization": "Bearer x"})
    with pytest.raises(Wrong, match=r"redirected from https to http://cdn\.example/a$"):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://cdn.example/a?signature=1")
    for location in ("https://hub.example/b", "https://cdn.example/b", "https://hub.example:444/"):
        new = redirects.redirect_request(request, None, 302, "Found", {}, location)
        assert new.has_header("Authorization") is (location == "https://hub.example/b")


@pytest.mark.parametrize("endpoint", ["file:///srv", "hub.example", "ftp://hub.example", "https://", "http://[::1"])
def test_an_endpoint_of_another_kind_is_refused(endpoint: str) -> None:
    with pytest.raises(Wrong, match="is not an http or https URL"):
        hub_client.Hub(endpoint, REPOSITORY, REVISION, "")


# Accepted files


def test_code_is_never_accepted_silently(node: Node, hub: Hub) -> None:
    hub.files |= {"modeling_glm.py": b"import os", "pytorch_model.BIN": b"pickle"}
    process = node.fetch()
    assert process.returncode == 1
    assert "the hub has code: modeling_glm.py, pytorch_model.BIN; name its sha256 in weights_manifest" in process.stdout
    assert hub.ranges("modeling_glm.py") == []
    node.name()
    assert node.fetch().returncode == 0 and node.check()["ready"]
    node.sums.write_text("{}")
    assert node.check()["why"] == "modeling_glm.py is code, and not in weights_manifest"


def test_weights_manifest_is_a_closed_list(node: Node, hub: Hub) -> None:
    node.name()
    hub.files["planted.json"] = b"{}"
    process = node.fetch()
    assert (
        process.returncode == 1 and "weights_manifest does not name planted.json, which the hub has" in process.stdout
    )
    assert hub.ranges("planted.json") == [] and hub.ranges(BIG) == []


def test_weights_manifest_may_name_what_weights_exclude_leaves_out(node: Node, hub: Hub) -> None:
    node.name(**{"README.md": "0" * 64})
    assert node.fetch().returncode == 0 and node.check()["ready"]
