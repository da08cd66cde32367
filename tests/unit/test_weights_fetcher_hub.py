"""Claims about a hub that means ill, or is not one (fleet/weights_fetcher/hub.py, download.py): nothing that it says gets further
than it should, every end is one message, and what may pass is asked for again.

The hub is on loopback, or its words come from hypothesis. No network beyond 127.0.0.1, no Docker.
"""

import datetime
import email.utils
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.weights_fetcher import download
from fleet.weights_fetcher import hub as hub_client
from fleet.weights_fetcher import model as model_folder
from tests.support import weights_hub
from tests.support.weights_hub import BIG, REPOSITORY, REVISION, SMALL, Hub, Node

Wrong, Later = model_folder.Wrong, hub_client.Later
NOW = datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with weights_hub.standing() as server:
        yield server


@pytest.fixture
def node(tmp_path: pathlib.Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)


@pytest.fixture
def asked(hub: Hub) -> Any:
    """The program's own view of the hub."""
    return hub_client.Hub(hub.url, REPOSITORY, REVISION, "")


class Clock:
    """Stands in for time and for the event that ends a pause: every pause passes at once, and is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 1000.0, list[float]()
        monkeypatch.setattr(download.time, "monotonic", lambda: self.now)

    def wait(self, pause: float) -> bool:
        self.pauses.append(pause)
        self.now += pause
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# What is final, and what is asked for again


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416, 451])
def test_what_the_hub_refuses_for_good_is_final(hub: Hub, asked: Any, status: int) -> None:
    hub.status = status
    with pytest.raises(Wrong, match=f"/tree/{REVISION}: {status} Faulty"):
        asked.tree()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_what_another_moment_may_mend_is_asked_for_again(hub: Hub, asked: Any, status: int) -> None:
    hub.refusals = [(status, "7")]
    with pytest.raises(Later) as caught:
        asked.tree()
    assert caught.value.pause == 7
    assert len(asked.tree()) == 4


def test_the_list_of_files_is_asked_for_again_too(node: Node, hub: Hub) -> None:
    hub.refusals = [(503, "1")]
    done = node.fetch()
    assert done.returncode == 0
    assert (
        f"the list of files: {hub.url}/api/models/{REPOSITORY}/tree/{REVISION}: 503 Faulty; again in 1 s" in done.stdout
    )


def test_an_address_that_the_hub_signed_and_that_is_over_is_asked_for_anew(hub: Hub, asked: Any) -> None:
    """The storage of a hub refuses what the hub has signed for an hour; its answer is not the hub's."""
    with weights_hub.standing() as storage:
        storage.files, hub.storage = hub.files, f"{storage.url}/signed"
        storage.status = 403
        with pytest.raises(Later, match=r"/signed/.*: 403 Faulty, to which the hub redirects"):
            asked.file(SMALL, 0)
        storage.status = 0
        with asked.file(SMALL, 0) as answer:
            assert answer.read() == hub.files[SMALL]
    assert len(hub.log) == 2


def test_the_signature_of_an_address_is_in_no_message() -> None:
    assert hub_client.public("https://me:word@cdn.example/a?X-Amz-Signature=secret#x") == "https://cdn.example/a"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("999999999", 300),
        (email.utils.format_datetime(NOW + datetime.timedelta(seconds=90), usegmt=True), 90),
        (email.utils.format_datetime(NOW - datetime.timedelta(days=1), usegmt=True), 0),
        (email.utils.format_datetime(NOW + datetime.timedelta(days=1), usegmt=True), 300),
        ("Sun, 29 Nov 2026 12:00:20", 20),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("٣", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_more_than_five_minutes(value: str, seconds: float) -> None:
    assert hub_client.retry_after(value, NOW) == seconds


@given(st.text())
def test_no_retry_after_is_a_pause_that_is_none(value: str) -> None:
    assert 0 <= hub_client.retry_after(value, NOW) <= 300


def test_refusals_are_borne_for_a_time_and_not_for_a_number_of_tries(clock: Clock) -> None:
    patience = download.Patience(900, clock)
    while clock.now < 1900:
        patience.wait(SMALL, OSError("refused"))
    with pytest.raises(Wrong, match=r"^config.json: refused \(900 s without a byte\)$"):
        patience.wait(SMALL, OSError("refused"))
    assert clock.pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert clock.now == 1900


def test_a_byte_that_is_new_begins_the_time_anew(clock: Clock) -> None:
    patience = download.Patience(10, clock)
    for _ in range(4):
        patience.wait(SMALL, Later("busy", 9))
        patience.reset()
    assert clock.pauses == [9] * 4


def test_a_server_that_asks_for_time_gets_it(clock: Clock) -> None:
    patience = download.Patience(900, clock)
    patience.wait(SMALL, Later("busy", 200))
    patience.wait(SMALL, Later("busy", 100_000))
    assert clock.pauses == [200, 300]


def test_where_one_file_cannot_be_had_the_others_do_not_wait() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Wrong):
        download.Patience(900, stop).wait(SMALL, OSError("refused"))


# Bytes


def test_a_server_that_ignores_range_is_read_from_the_beginning(node: Node, hub: Hub) -> None:
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(hub.files[BIG][:500_000])
    hub.deaf = True
    done = node.fetch()
    assert done.returncode == 0, done.stdout
    assert hub.asked(BIG) == ["bytes=500000-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_server_that_ignores_range_and_cuts_the_line_ends_with_the_patience(node: Node, hub: Hub) -> None:
    """The same first bytes again and again are no progress."""
    hub.deaf, hub.cuts[BIG] = True, 100
    done = node.fetch()
    assert done.returncode == 1
    assert f"{BIG}: the connection ended at 1000000 of 3000000 bytes (2 s without a byte)" in done.stdout


def test_a_page_in_place_of_a_file_is_not_written(node: Node, hub: Hub) -> None:
    """What a gate of the network answers: 200, and words for a person."""
    hub.served[BIG] = b"<!DOCTYPE html><p>Log in"
    done = node.fetch()
    assert done.returncode == 1
    assert f"{BIG}: an answer of 24 bytes, wanted 3000000 (2 s without a byte)" in done.stdout
    assert node.part.stat().st_size == 0


def test_a_page_in_place_of_a_file_costs_nothing_of_what_was_fetched(node: Node, hub: Hub) -> None:
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(hub.files[BIG][:500_000])
    hub.served[BIG], hub.deaf = b"<!DOCTYPE html><p>Log in", True
    assert f"{BIG}: an answer of 24 bytes, wanted 3000000" in node.fetch().stdout
    assert node.part.read_bytes() == hub.files[BIG][:500_000]


def test_other_bytes_than_those_that_were_asked_for_are_not_written(
    node: Node, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(hub.files[BIG][:500_000])
    monkeypatch.setattr(weights_hub.Handler, "RANGE", "bytes 0-2499999/3000000")
    assert f"{BIG}: other bytes than those from 500000 on" in node.fetch().stdout
    assert node.part.read_bytes() == hub.files[BIG][:500_000]


def test_a_model_that_does_not_fit_the_disk_is_refused_before_a_byte_is_asked_for(node: Node, hub: Hub) -> None:
    huge = {"oid": "0" * 64, "size": 1 << 49}
    hub.entries = [{"type": "file", "path": "huge.safetensors", "size": 1, "oid": "0" * 40, "lfs": huge}]
    done = node.fetch()
    assert done.returncode == 1
    assert "no space left" in done.stdout and "562950.0 GB are needed" in done.stdout
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
def test_a_name_that_could_lie_elsewhere_is_refused(hub: Hub, asked: Any, path: Any, seen: str) -> None:
    hub.entries = [{"type": "file", "path": path, "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong) as caught:
        asked.tree()
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
def test_an_entry_of_another_form_is_named(entry: dict[str, Any], seen: str) -> None:
    with pytest.raises(Wrong) as caught:
        hub_client.read_file({"type": "file", "path": "a.json", "size": 1, "oid": "0" * 40, **entry})
    assert seen in str(caught.value)


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<!DOCTYPE html>",
        b"{}",
        b"null",
        b"[[]]",
        b"[" * 100_000,
        b"\xff\xfe",
        b"[" + b"9" * 5000 + b"]",
        b'"\x1b[2J"',
    ],
)
def test_a_page_that_is_no_list_of_files_is_one_message(node: Node, hub: Hub, page: bytes) -> None:
    hub.page = page
    done = node.fetch()
    assert done.returncode == 1
    line = done.stdout.rstrip("\n")
    assert ("no list of files" in line or "of unknown form" in line) and "\n" not in line and line.isprintable()


def test_a_name_twice_or_as_file_and_folder_is_refused(hub: Hub, asked: Any) -> None:
    hub.entries = [{"type": "file", "path": SMALL, "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong, match="names a file twice"):
        asked.tree()
    hub.entries = [{"type": "file", "path": f"{SMALL}/x", "size": 1, "oid": "0" * 40}]
    with pytest.raises(Wrong, match=f"names {SMALL} as a file and as a folder"):
        asked.tree()


def test_a_manifest_of_the_repositorys_own_is_not_fetched(node: Node, hub: Hub) -> None:
    """Our record has that name: fetched, the two would take turns for ever."""
    hub.files["manifest.json"] = b"{}"
    assert node.fetch().returncode == 0
    assert node.check()["ready"] and "manifest.json" not in node.manifest()["files"]
    assert hub.asked("manifest.json") == []


@pytest.mark.parametrize(
    "link", ["file:///etc/shadow", "https://other.example/list", "ftp://127.0.0.1/x", "http://[", "//x"]
)
def test_the_list_goes_on_at_the_same_server_alone(hub: Hub, asked: Any, link: str) -> None:
    hub.next = f'<{link}>; rel="next"'
    with pytest.raises(Wrong):
        asked.tree()
    assert len(hub.log) == 1


def test_the_list_goes_on_where_the_hub_says(hub: Hub, asked: Any) -> None:
    following = hub_client.next_page
    assert following('</next?cursor=2>; rel="next"', "https://hub.example/a") == "https://hub.example/next?cursor=2"
    assert (
        following('<https://hub.example:443/n>; title="x"; rel=next', "https://hub.example/a")
        == "https://hub.example:443/n"
    )
    assert following('<https://other.example/p>; rel="prev"', "https://hub.example/a") == ""


def test_a_list_without_an_end_is_left(hub: Hub, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "MOST_PAGES", 5)
    hub.page, hub.next = b"[]", f'<{hub.url}/api/models/{REPOSITORY}/tree/{REVISION}>; rel="next"'
    with pytest.raises(Wrong, match="does not end"):
        asked.tree()
    assert len(hub.log) == 5


def test_the_list_comes_from_the_hub_itself(hub: Hub, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with weights_hub.standing() as other:
        monkeypatch.setattr(
            weights_hub.Handler,
            "do_GET",
            lambda self: (
                self.answer(302, b"", Location=f"{other.url}{self.path}")
                if self.server is hub
                else self.answer(200, b"[]")
            ),
        )
        with pytest.raises(Wrong, match="redirected to another server"):
            asked.tree()


@pytest.mark.parametrize(
    "there", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://[", "gopher://x", "http:///x"]
)
def test_a_redirect_leads_to_http_alone(hub: Hub, asked: Any, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_hub.Handler, "do_GET", lambda self: self.answer(302, b"", Location=there))
    with pytest.raises(Wrong):
        asked.file(SMALL, 0)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    redirects = hub_client.Redirects(("https", "hub.example", 443))
    request = hub_client.urllib.request.Request("https://hub.example/a", headers={"Authorization": "Bearer x"})
    with pytest.raises(Wrong, match=r"redirected from https to http://cdn\.example/a$"):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://cdn.example/a?signature=1")
    for there, sent in (
        ("https://hub.example/b", True),
        ("https://cdn.example/b", False),
        ("https://hub.example:444/", False),
    ):
        new = redirects.redirect_request(request, None, 302, "Found", {}, there)
        assert new.has_header("Authorization") is sent


@pytest.mark.parametrize("endpoint", ["file:///srv", "hub.example", "ftp://hub.example", "https://", "http://[::1"])
def test_an_endpoint_of_another_kind_is_refused(endpoint: str) -> None:
    with pytest.raises(Wrong, match="is not an http or https URL"):
        hub_client.Hub(endpoint, REPOSITORY, REVISION, "")


# What is accepted


def test_code_is_never_accepted_silently(node: Node, hub: Hub) -> None:
    hub.files |= {"modeling_glm.py": b"import os", "pytorch_model.BIN": b"pickle"}
    done = node.fetch()
    assert done.returncode == 1
    assert "the hub has code: modeling_glm.py, pytorch_model.BIN; name its sha256 in weights_manifest" in done.stdout
    assert hub.asked("modeling_glm.py") == []
    node.name()
    assert node.fetch().returncode == 0 and node.check()["ready"]
    node.sums.write_text("{}")
    assert node.check()["why"] == "modeling_glm.py is code, and not in weights_manifest"


def test_weights_manifest_is_a_closed_list(node: Node, hub: Hub) -> None:
    node.name()
    hub.files["planted.json"] = b"{}"
    done = node.fetch()
    assert done.returncode == 1 and "weights_manifest does not name planted.json, which the hub has" in done.stdout
    assert hub.asked("planted.json") == [] and hub.asked(BIG) == []


def test_weights_manifest_may_name_what_weights_exclude_leaves_out(node: Node, hub: Hub) -> None:
    node.name(**{"README.md": "0" * 64})
    assert node.fetch().returncode == 0 and node.check()["ready"]


# What hypothesis says in place of a hub

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["file", "0" * 40, "0" * 64]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "path", "size", "oid", "lfs", "files", "sha256", "mtime_ns"])
            | st.text(max_size=4),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {"type": st.just("file"), "path": st.text() | JSON, "size": st.integers() | JSON, "oid": st.just("0" * 40) | JSON},
    optional={"lfs": JSON},
)


def said(read: Callable[..., Any], *told: Any) -> Any:
    """What a reader returns, or the Wrong that it raises; the words of that are one line for a terminal."""
    try:
        return read(*told)
    except Wrong as problem:
        assert str(problem).isprintable() and len(str(problem)) < 2500  # noqa: PT017
        return problem


@given(JSON | st.lists(ENTRY | JSON))
def test_every_list_is_files_or_wrong(told: Any) -> None:
    files = said(lambda: hub_client.complete(hub_client.read_page(json.dumps(told).encode(), "hub")))
    for file in files if isinstance(files, list) else ():
        place = pathlib.Path("/model", file.path)
        assert ".." not in place.parts and str(place) == f"/model/{file.path}"
        assert 0 <= file.size <= 1 << 50 and (len(file.sha256), len(file.blob)) in ((64, 0), (0, 40))


@given(st.binary())
def test_every_page_of_bytes_is_files_or_wrong(data: bytes) -> None:
    assert isinstance(said(hub_client.read_page, data, "hub"), (list, Wrong))


@given(st.text() | st.from_regex(r"<(https?|file)://[^<>]{0,20}>; rel=\"next\""))
def test_every_link_stays_at_the_hub_or_is_wrong(link: str) -> None:
    following = said(hub_client.next_page, link, "https://hub.example/list")
    assert (
        isinstance(following, Wrong) or not following or hub_client.origin(following) == ("https", "hub.example", 443)
    )


@given(JSON | st.fixed_dictionaries({"files": st.dictionaries(st.text(), JSON)}))
def test_every_record_is_entries_or_none(told: Any) -> None:
    for name, entry in model_folder.read_record(json.dumps(told).encode()).items():
        assert model_folder.name_problem(name) == "" and len(entry.sha256) == 64


@given(st.binary())
def test_every_record_of_bytes_is_entries_or_none(data: bytes) -> None:
    assert model_folder.read_record(data) == {}
