"""A refresh reports everything that drift.yml changes by hand, with what it expected and saw, and an update repairs it.

`make test` makes the first wave at once, with one preview and one repair; `make test-all` makes each change on its own.
"""

import re
from typing import Any

import pytest

from tests.support import drift_table, records
from tests.support.e2e import NODES, Road
from tests.support.environment import expect_success

WAVES = drift_table.waves()
BACK = 300  # seconds until a replica that starts by itself must run


def change_by_hand(road: Road, change: dict[str, Any]) -> None:
    """Make the change; where the node reboots, wait until its replica runs again."""
    road.on(change["node"], change["do"])
    if change.get("reboot"):
        road.reboot(change["node"])
        road.wait_for_replicas(change["node"], BACK)


def expect_reports(road: Road, changes: list[dict[str, Any]]) -> None:
    """Require that one preview names all of these changes; `*` in their words is any text without brackets."""
    preview = expect_success(road.pulumi("preview", "--refresh"))  # without policies, which `up` below applies
    for change in changes:
        for words in change["report"]:
            pattern = re.escape(words).replace(r"\*", r"[^()]*")
            assert re.search(pattern, preview), f"{change['kind']}: {words}\nis not in\n{preview}"


def expect_repair(road: Road, wave: list[dict[str, Any]]) -> None:
    """Require that one run repairs the wave, and that replicas run, also where Host restarted their Docker daemon."""
    output = expect_success(road.up("--refresh"))
    assert "not reverted" not in output, output
    for node in NODES:
        assert road.on(node, "systemctl is-active glm-0 || true") == "active"
    road.expect_no_changes()
    records.add("drift", {change["kind"]: change for change in wave})


def test_a_refresh_reports_changes_by_hand_at_once_and_an_update_repairs_them(road: Road, first_up: str) -> None:
    for change in WAVES[0]:
        change_by_hand(road, change)
    expect_reports(road, WAVES[0])
    expect_repair(road, WAVES[0])


@pytest.mark.exhaustive
@pytest.mark.parametrize("wave", WAVES, ids=range(1, len(WAVES) + 1))
def test_a_refresh_reports_each_change_and_an_update_repairs_a_wave_of_them(
    road: Road, first_up: str, wave: list[dict[str, Any]]
) -> None:
    for change in wave:
        change_by_hand(road, change)
        expect_reports(road, [change])
    expect_repair(road, wave)
