"""A fetch of the role weights from neighbours (fleet/weights_fetcher/swarm.py): real HTTPS servers on the loopback, each with its own fault.

No network beyond 127.0.0.1, no Docker. The real source, nginx with the role's configuration: tests/machine/test_weights_source.py.
"""

import json
import pathlib
import re
import time

import pytest

from fleet.program import sharing
from fleet.weights_fetcher import chunks, neighbours, swarm
from tests.support import gateway_pki
from tests.support.weights_hub import BIG, REPOSITORY, REVISION, Hub
from tests.support.weights_member import Member, Take, right, taken
from tests.support.weights_source import CHUNK, Pki, Source, listed

pytestmark = pytest.mark.usefixtures("quick")


def test_a_node_takes_every_file_from_its_neighbours_and_none_from_the_hub(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert taken(hub) == []
    assert all(len(one.asked(BIG)) > 5 for one in sources.values())  # ranges of one file from both
    assert "from n2" in text and "from n3" in text and "0.0 MB from the hub" in text


def test_a_source_that_dies_in_a_chunk_is_named_and_the_others_go_on(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].cut = 1000
    code, text = take()
    assert code == 0, text
    right(member, hub)
    # Several requests are under way: the first that fails is named, whichever way it then fails.
    assert re.search(r"n2 rests: \S+: \S", text), text
    assert taken(hub) == []


def test_a_source_that_lies_in_a_chunk_is_dropped_and_named(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].wrong[BIG] = bytes(len(hub.files[BIG]))
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert f"n2 is dropped: {BIG}: chunk " in text and "is not what its list says: sha256 " in text
    assert "n3 is" not in text and taken(hub) == []


def test_a_list_that_lies_is_found_by_the_sum_of_the_whole_and_its_author_dropped(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    """Every chunk is what the list says: only the manifest tells."""
    other = hub.files[BIG][:-1] + b"?"
    sources["n2"].wrong[BIG], sources["n2"].lists[BIG] = other, listed(other)
    del sources["n3"].lists[BIG]
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert f"n2 is dropped: {BIG}: it is wrong, and the list says that it was verified: sha256 " in text
    assert {*taken(hub)} == {f"/{REPOSITORY}/resolve/{REVISION}/{BIG}"}


def test_a_wrong_list_of_a_file_that_its_author_had_not_verified_bars_it_from_that_file_alone(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    other = hub.files[BIG][:-1] + b"?"
    sources["n2"].wrong[BIG], sources["n2"].lists[BIG] = other, listed(other)
    sources["n2"].claims[BIG] = {"verified": False}
    del sources["n3"].lists[BIG]
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert f"n2 is not used for {BIG}: all chunks are as listed, and the whole is wrong" in text
    assert {*taken(hub)} == {f"/{REPOSITORY}/resolve/{REVISION}/{BIG}"}


def test_two_liars_leave_the_hub(member: Member, hub: Hub, sources: dict[str, Source], take: Take) -> None:
    for one in sources.values():
        one.wrong = {path: bytes(len(data)) for path, data in hub.files.items()}
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert "n2 is dropped" in text and "n3 is dropped" in text
    assert len({*taken(hub)}) == 3


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ({"content_range": "bytes 7-8/9"}, "bytes 7-8/9 in place of"),
        ({"huge": True}, "n2 is dropped: .*( is too long| in place of )"),  # of a list, or of a chunk
        ({"status": 403}, "n2 rests: .*: it answers 403"),
        ({"status": 302}, "n2 rests: .*: it answers 302"),
    ],
)
def test_an_answer_of_another_form_is_named(
    fault: dict, seen: str, member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    for name, value in fault.items():
        setattr(sources["n2"], name, value)
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert re.search(seen, text), text
    assert taken(hub) == []


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps(listed(b"other")).encode(),
        json.dumps(listed(bytes(3_000_000)) | {"digests": ["../x"] * 46}).encode(),
    ],
)
def test_a_list_of_another_form_drops_its_author(
    text: bytes, member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].lists[BIG] = text
    del sources["n3"].lists[BIG]
    code, output = take()
    assert code == 0, output
    right(member, hub)
    assert f"n2 is dropped: {BIG}: its list " in output
    assert taken(hub) == [f"/{REPOSITORY}/resolve/{REVISION}/{BIG}"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"have": "f" * 100, "verified": False, "hub": False},
        {"have": "1", "verified": True, "hub": False},
        {"have": "-1", "verified": False, "hub": False},
        {"have": "1", "verified": 0, "hub": False},
    ],
)
def test_a_summary_of_another_form_drops_its_author(
    entry: dict, member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].summary = json.dumps({chunks.list_name(BIG).removesuffix(".json"): entry}).encode()
    code, output = take()
    assert code == 0, output
    right(member, hub)
    assert "n2 is dropped: all files: its summary " in output and taken(hub) == []


def test_a_certificate_of_another_authority_is_dropped_and_named(
    tmp_path: pathlib.Path, member: Member, hub: Hub, pki: Pki, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].tls.load_cert_chain(pki.server("n2", gateway_pki.authority("of another stack")))
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert "n2 is dropped: " in text and "unable to get local issuer certificate" in text
    assert taken(hub) == []


def test_a_certificate_of_another_node_is_dropped_and_named(
    member: Member, hub: Hub, pki: Pki, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].tls.load_cert_chain(pki.server("n3"))
    code, text = take()
    assert code == 0, text
    assert "n2 is dropped: " in text and "Hostname mismatch" in text


def test_a_slow_source_is_dropped_and_does_not_hold_the_rest(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    sources["n2"].pace.set()
    start = time.monotonic()
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert time.monotonic() - start < 20
    assert taken(hub) == []


def test_a_source_that_is_busy_is_no_fault(member: Member, hub: Hub, sources: dict[str, Source], take: Take) -> None:
    for one in sources.values():
        one.busy = 5
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert taken(hub) == [] and "rests" not in text and "dropped" not in text


@pytest.mark.usefixtures("hasty")
def test_neighbours_that_do_not_answer_leave_the_hub_after_a_bounded_time(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    for one in sources.values():
        one.close()
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert "n2 rests: " in text and "refused" in text
    assert sorted(taken(hub)) == sorted(f"/{REPOSITORY}/resolve/{REVISION}/{path}" for path in hub.files)


@pytest.mark.usefixtures("hasty")
def test_an_owner_that_does_not_get_on_is_replaced_for_what_it_lacks(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    """n2 has taken half of the file from the hub, and stopped; n3 has nothing."""
    sources["n2"].lists[BIG] = listed(hub.files[BIG], have=23)
    sources["n2"].claims[BIG] = {"hub": True}
    sources["n3"].lists.clear()
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert hub.ranges(BIG) == [f"bytes={23 * CHUNK}-"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.usefixtures("hasty")
def test_a_neighbour_that_promises_chunks_and_gives_none_holds_the_fetch_up_once_and_not_at_each_chunk(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    """Its summary has every chunk, its list none."""
    sources["n2"].lists[BIG] = json.dumps(listed(hub.files[BIG], have=0)).encode()
    del sources["n3"].lists[BIG]
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert {*taken(hub)} == {f"/{REPOSITORY}/resolve/{REVISION}/{BIG}"}
    assert len(hub.ranges(BIG)) <= 2, "one answer has the whole file"


@pytest.mark.parametrize("name", ["n001", "n009", "n050"])
def test_in_a_large_fleet_the_same_eight_nodes_take_the_files_for_all(name: str) -> None:
    names = [f"n{number:03}" for number in range(1, 100)]
    known = sharing.known(names, name)
    places = [neighbours.Place(one, "192.0.2.1", 1, first) for one, first in known.items()]
    first, others = swarm.order(name, places)
    assert first == names[:8] and (name in first or others[0] == name)
