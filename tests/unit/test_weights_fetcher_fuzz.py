"""Fuzzed answers of a hub and of neighbours (fleet/weights_fetcher/hub.py, model.py, chunks.py): each is read, or is one message on one line."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleet.weights_fetcher import chunks
from fleet.weights_fetcher import hub as hub_client
from fleet.weights_fetcher import model as model_folder

Wrong = model_folder.Wrong
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats()),
    *(st.text(max_size=8), st.sampled_from(["file", "0" * 40, "0" * 64])),
)
NAMES = st.sampled_from(["type", "path", "size", "oid", "lfs", "files", "sha256", "mtime_ns"]) | st.text(max_size=4)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)
ENTRY = st.fixed_dictionaries(
    {"type": st.just("file"), "path": st.text() | JSON, "size": st.integers() | JSON, "oid": st.just("0" * 40) | JSON},
    optional={"lfs": JSON},
)


def result(read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a reader returns, or the Wrong that it raises, whose message must be one line for a terminal."""
    try:
        return read(*arguments)
    except Wrong as problem:
        assert str(problem).isprintable() and len(str(problem)) < 2500  # noqa: PT017
        return problem


@given(JSON | st.lists(ENTRY | JSON))
def test_every_list_is_files_or_wrong(page: Any) -> None:
    files = result(lambda: hub_client.complete(hub_client.read_page(json.dumps(page).encode(), "hub")))
    for file in files if isinstance(files, list) else ():
        place = pathlib.Path("/model", file.path)
        assert ".." not in place.parts and str(place) == f"/model/{file.path}"
        assert 0 <= file.size <= 1 << 50 and (len(file.sha256), len(file.blob)) in ((64, 0), (0, 40))


@given(st.binary())
def test_every_page_of_bytes_is_files_or_wrong(data: bytes) -> None:
    assert isinstance(result(hub_client.read_page, data, "hub"), (list, Wrong))


@given(st.text() | st.from_regex(r"<(https?|file)://[^<>]{0,20}>; rel=\"next\""))
def test_every_link_stays_at_the_hub_or_is_wrong(link: str) -> None:
    following = result(hub_client.next_page, link, "https://hub.example/list")
    assert (
        isinstance(following, Wrong) or not following or hub_client.origin(following) == ("https", "hub.example", 443)
    )


@given(JSON | st.fixed_dictionaries({"files": st.dictionaries(st.text(), JSON)}))
def test_every_record_is_entries_or_none(record: Any) -> None:
    for name, entry in model_folder.read_record(json.dumps(record).encode()).items():
        assert model_folder.name_problem(name) == "" and len(entry.sha256) == 64


@given(st.binary())
def test_every_record_of_bytes_is_entries_or_none(data: bytes) -> None:
    assert model_folder.read_record(data) == {}


LISTED = st.fixed_dictionaries(
    {
        "size": st.just(5) | JSON,
        "chunk": st.just(2) | JSON,
        "digests": st.lists(st.none() | st.just("a" * 64) | JSON, max_size=4) | JSON,
    }
)
HAS = st.fixed_dictionaries(
    {
        "have": st.sampled_from(["0", "7", "8", "-1", ""]) | JSON,
        "verified": st.booleans() | JSON,
        "hub": st.booleans() | JSON,
    }
)


@given(st.binary() | (JSON | LISTED).map(lambda value: json.dumps(value).encode()))
def test_every_list_of_a_neighbour_has_the_files_chunks_or_is_refused(data: bytes) -> None:
    try:
        digests = chunks.read_list(data, 5, 2)
    except ValueError:
        return
    assert len(digests) == 3 and all(digest is None or len(digest) == 64 for digest in digests)


@given(st.binary() | (JSON | st.fixed_dictionaries({"a" * 40: HAS})).map(lambda value: json.dumps(value).encode()))
def test_every_summary_of_a_neighbour_is_of_the_files_chunks_or_is_refused(data: bytes) -> None:
    try:
        summary = chunks.read_summary(data, {f"{'a' * 40}.json": 3})
    except ValueError:
        return
    assert all(0 <= has.bits < 8 and (has.bits == 7 or not has.verified) for has in summary.values())
