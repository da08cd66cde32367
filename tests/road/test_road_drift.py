"""The drift check does not lie: everything that drift.yml changes by hand is told with what was expected and seen, and mended."""

import re
from typing import Any

import pytest

from tests.road import drift
from tests.road.road import Road

pytestmark = [pytest.mark.docker, pytest.mark.road, pytest.mark.timeout(1800)]

WAVES = drift.waves()
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


@pytest.mark.parametrize("wave", WAVES, ids=range(1, len(WAVES) + 1))
def test_what_is_changed_by_hand_is_told_and_mended(road: Road, first_up: str, wave: list[dict[str, Any]]) -> None:
    for change in wave:
        by_hand(road, change)
        seen = road.pulumi("preview", "--refresh")  # policies have no say in what is seen: the runs below ask them
        assert seen.returncode == 0, seen.stdout
        for words in change["told"]:
            assert is_told(words, seen.stdout), f"{change['kind']}: {words}\nis not in\n{seen.stdout}"
    mended = road.up("--refresh")
    assert mended.returncode == 0, mended.stdout
    assert "not put back" not in mended.stdout, mended.stdout
    for node in (
        "glm-1",
        "glm-2",
    ):  # also where Host restarted its engine, and so the replica: the run has waited for it
        assert road.on(node, "systemctl is-active glm-0 || true") == "active"
    again = road.preview("--refresh", "--expect-no-changes")
    assert again.returncode == 0, again.stdout
