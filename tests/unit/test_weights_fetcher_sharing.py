"""What remains of a fetch from neighbours (fleet/weights_fetcher/sharing.py): the hub's part, a killed run, lists of an earlier model, empty nodes.

No network beyond 127.0.0.1, no Docker. Faults of neighbours: test_weights_fetcher_swarm.py.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from fleet.weights_fetcher import chunks, fetch, neighbours
from tests.support import weights_source
from tests.support.environment import expect_success
from tests.support.weights_hub import BIG, FETCH, MODEL, REPOSITORY, REVISION, SMALL, Hub
from tests.support.weights_member import Member, Take, places, right, taken
from tests.support.weights_source import CHUNK, Pki, Source

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.usefixtures("hasty")
def test_wrong_bytes_of_the_hub_end_the_fetch_as_without_neighbours(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    for one in sources.values():
        one.lists.clear()
    hub.served[SMALL] = hub.files[SMALL].replace(b"Glm", b"Elm")
    code, text = take()
    assert code == 1 and f"{SMALL}: git blob " in text and "the next run fetches it again" in text


@pytest.mark.usefixtures("hasty")
def test_a_broken_connection_to_the_hub_loses_no_byte(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    for one in sources.values():
        one.lists.clear()
    hub.cuts[BIG] = 2
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert hub.ranges(BIG) == ["", "bytes=1000000-", "bytes=2000000-"]


@pytest.mark.usefixtures("hasty")
def test_a_hub_that_ignores_range_still_gives_the_rest(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    for one in sources.values():
        one.lists.clear()
    hub.cuts[BIG], hub.deaf = 1, True
    code, text = take()
    assert code == 0, text
    right(member, hub)


def test_a_killed_fetch_goes_on_by_chunk(member: Member, hub: Hub, sources: dict[str, Source], take: Take) -> None:
    """The chunks that are on disk are asked for again of nobody; one that was damaged there is."""
    member.prepare()
    hub.stall.set()
    for one in sources.values():
        one.lists.clear()
    # alone, so that the process, which has the real times, takes the file from the hub at once
    neighbours.write_places(member.neighbours, places({}))
    running = subprocess.Popen([sys.executable, "-B", *FETCH, *member.fetching(*member.shared())[3:]], stdout=-3)
    here = member.lists / chunks.list_name(BIG)
    _until(here.exists)
    _until(lambda: json.loads(here.read_text())["digests"].count(None) == 31)
    running.send_signal(signal.SIGKILL)
    running.wait()
    hub.stall.clear()
    hub.log.clear()
    with member.part.open("r+b") as part:
        part.seek(2 * CHUNK)
        part.write(b"damage")
    code, text = take()
    assert code == 0, text
    right(member, hub)
    assert hub.ranges(BIG) == [f"bytes={2 * CHUNK}-{3 * CHUNK - 1}", f"bytes={15 * CHUNK}-"]


def _until(claim: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_part_of_a_fetch_without_neighbours_goes_on(
    member: Member, hub: Hub, sources: dict[str, Source], take: Take
) -> None:
    member.part.parent.mkdir(parents=True)
    member.part.write_bytes(hub.files[BIG][:1_000_000])
    code, text = take()
    assert code == 0, text
    right(member, hub)
    asked = {ranges for one in sources.values() for ranges in one.asked(BIG)}
    assert {f"bytes={at * CHUNK}-{at * CHUNK + CHUNK - 1}" for at in range(15)} & asked == set()


def test_a_model_of_an_earlier_release_gets_its_lists(member: Member, hub: Hub, sources: dict[str, Source]) -> None:
    assert member.fetch().returncode == 0
    assert json.loads(expect_success(member.run(MODEL, "check", f"--lists={member.lists}")))["listed"] is False
    member.prepare()
    index = member.run(FETCH, "index", *member.shared())
    assert index.returncode == 0, index.stdout
    right(member, hub)
    assert json.loads(expect_success(member.run(MODEL, "check", f"--lists={member.lists}")))["listed"] is True


def test_a_file_that_changed_on_disk_is_not_listed(member: Member, hub: Hub, sources: dict[str, Source]) -> None:
    assert member.fetch().returncode == 0
    member.prepare()
    (member.model / SMALL).write_bytes(b"other")
    index = member.run(FETCH, "index", *member.shared())
    assert index.returncode == 1 and f"{SMALL}: sha256 " in index.stdout
    assert not (member.lists / chunks.list_name(SMALL)).exists()


def test_empty_nodes_that_start_at_once_take_one_copy_from_the_hub(tmp_path: pathlib.Path, hub: Hub, pki: Pki) -> None:
    """Three nodes, each a thread with a source of its own folder."""
    del hub.files["README.md"]
    hub.files |= {f"model-{number:05}.safetensors": os.urandom(1_000_000) for number in range(2, 8)}
    names = ("n1", "n2", "n3")
    folders = {name: tmp_path / name for name in names}
    with contextlib.ExitStack() as stack:
        served = {}
        for name in names:
            source = weights_source.FolderSource(folders[name], pki.server(name), pki.ca)
            stack.callback(source.close)
            served[name] = source
        fleet = [neighbours.Place(name, "127.0.0.1", served[name].server_port, True) for name in names]
        members = [Member(folders[name], hub, pki, name, fleet) for name in names]
        for one in members:
            one.prepare()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            codes = list(pool.map(lambda one: _fetch(one, hub), members))
    assert codes == [None] * 3
    assert sorted(taken(hub)) == sorted(f"/{REPOSITORY}/resolve/{REVISION}/{path}" for path in hub.files)
    assert {ranges for _, ranges, _ in hub.log} == {""}
    for one in members:
        expect_success(one.run(MODEL, "finish"))
        right(one, hub)


def _fetch(member: Member, hub: Hub) -> None:
    options = fetch.command_line().parse_args(member.fetching(*member.shared())[3:])
    fetch.run(options)
