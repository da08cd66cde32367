"""The drift check does not lie: everything that drift.yml changes by hand is told with what was expected and seen, and mended.

`make test` does the first wave all at once, in one preview and one mending; that each kind is told on its own is `make test-all`'s.
"""

import re
from typing import Any

import pytest

from tests.support import drift_table, records
from tests.support.e2e import Road

WAVES = drift_table.waves()
BACK = 300  # seconds until a replica that starts by itself must run


def by_hand(road: Road, change: dict[str, Any]) -> None:
    """Do it, and wait until what it stopped on its way runs again."""
    road.on(change["node"], change["do"])
    if change.get("reboot"):
        road.reboot(change["node"])
        road.serves_again(change["node"], BACK)


def is_told(words: str, text: str) -> bool:
    """Whether the words are in the text; `*` is anything that is no bracket."""
    return bool(re.search(re.escape(words).replace(r"\*", r"[^()]*"), text))


def tells(road: Road, changes: list[dict[str, Any]]) -> None:
    """One preview names all of these changes."""
    seen = road.pulumi("preview", "--refresh")  # policies have no say in what is seen: the runs below ask them
    assert seen.returncode == 0, seen.stdout
    for change in changes:
        for words in change["told"]:
            assert is_told(words, seen.stdout), f"{change['kind']}: {words}\nis not in\n{seen.stdout}"


def mends(road: Road) -> None:
    """One run puts everything back, and replicas run, also where Host restarted their engine."""
    mended = road.up("--refresh")
    assert mended.returncode == 0, mended.stdout
    assert "not reverted" not in mended.stdout, mended.stdout
    for node in ("glm-1", "glm-2"):
        assert road.on(node, "systemctl is-active glm-0 || true") == "active"
    again = road.preview("--refresh", "--expect-no-changes")
    assert again.returncode == 0, again.stdout


def test_what_is_changed_by_hand_at_once_is_told_and_mended(road: Road, first_up: str) -> None:
    for change in WAVES[0]:
        by_hand(road, change)
    tells(road, WAVES[0])
    mends(road)
    records.add("drift", {change["kind"]: change for change in WAVES[0]})


@pytest.mark.exhaustive
@pytest.mark.parametrize("wave", WAVES, ids=range(1, len(WAVES) + 1))
def test_each_kind_is_told_when_it_is_changed_and_a_wave_of_them_mended(
    road: Road, first_up: str, wave: list[dict[str, Any]]
) -> None:
    for change in wave:
        by_hand(road, change)
        tells(road, [change])
    mends(road)
    records.add("drift", {change["kind"]: change for change in wave})
