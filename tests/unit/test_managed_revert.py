"""What a repair reverts before the roles run, and what it reports when no role restores a thing."""

from typing import Any

import pytest

from fleet.drift import Difference
from fleet.managed import revert

UNIT = {"state": "active", "at_boot": "enabled", "unit_file": "/lib/systemd/system/docker.service", "drop_ins": []}
DROP_INS = "/etc/systemd/system/docker.service.d"
FILE = {"type": "file", "mode": "0644", "owner": "root", "group": "root", "sha256": "ab"}
BOX = {"running": True, "image": "a@sha256:1", "image_id": "sha256:2", "user": "10001", "environment": ["A=1"]}


@pytest.mark.parametrize(
    ("thing", "expected", "seen", "plan"),
    [
        ("unit docker.service", UNIT, UNIT, {}),
        ("unit docker.service", UNIT, {}, {}),  # absent: a role installs it again
        ("unit docker.service", UNIT, {**UNIT, "state": "inactive", "at_boot": "disabled"}, {}),
        ("unit docker.service", UNIT, {**UNIT, "at_boot": "masked"}, {"unmask": ["docker.service"]}),
        ("unit docker.service", UNIT, {**UNIT, "at_boot": "masked-runtime"}, {"unmask": ["docker.service"]}),
        (
            "unit docker.service",
            {**UNIT, "drop_ins": [f"{DROP_INS}/a.conf 0123"]},
            {**UNIT, "drop_ins": [f"{DROP_INS}/a.conf 4567", f"{DROP_INS}/b.conf 89ab"]},
            {"files": [f"{DROP_INS}/b.conf"], "restart": ["docker.service"]},
        ),
        (
            "unit docker.service",
            UNIT,
            {**UNIT, "unit_file": "/etc/systemd/system/docker.service"},
            {"files": ["/etc/systemd/system/docker.service"], "restart": ["docker.service"]},
        ),
        ("package a", {"version": "1", "held": False}, {"version": "1", "held": True}, {"unhold": ["a"]}),
        ("package a", {"version": "1", "held": True}, {"version": "2", "held": True}, {}),
        ("container glm-0", BOX, {**BOX, "environment": ["A=1", "B=2"]}, {"containers": ["glm-0"]}),
        ("container glm-0", BOX, {**BOX, "running": False, "image_id": "sha256:3"}, {}),
        ("container glm-0", BOX, {}, {}),
        ("file /etc/x", FILE, {**FILE, "sha256": "cd"}, {}),
        ("file /etc/x", FILE, {**FILE, "type": "directory", "mode": "0755"}, {}),
        (
            "file /etc/x",
            FILE,
            {**FILE, "owner": "nobody"},
            {"attributes": [{"path": "/etc/x", "mode": "0644", "owner": "root", "group": "root"}]},
        ),
    ],
)
def test_a_repair_reverts_what_somebody_added_and_leaves_the_rest_to_the_roles(
    thing: str, expected: dict[str, Any], seen: dict[str, Any], plan: dict[str, list[Any]]
) -> None:
    assert revert.plan({thing: expected}, {thing: seen}) == plan


def test_a_repair_reverts_only_what_a_refresh_reported() -> None:
    expected, seen = {"package a": {"held": False}, "package b": {"held": False}}, {"package a": {"held": True}}
    drifted = revert.Drifted({"package a"}, expected, {**seen, "package b": {"held": True}})
    assert drifted.variables == {"revert": {"unhold": ["a"]}}
    assert revert.Drifted().variables == {}


def test_a_repair_reports_what_the_run_did_not_change() -> None:
    expected = {"package a": {"version": "1"}, "package b": {"version": "1"}, "file /x": {"mode": "0644"}}
    seen = {"package a": {"version": "2"}, "package b": {"version": "2"}, "file /x": {"mode": "0600"}}
    after = {"package a": {"version": "2"}, "package b": {"version": "1"}, "file /x": {"mode": "0640"}}
    drifted = revert.Drifted(set(expected), expected, seen)
    assert drifted.left(after) == [Difference("package", "a", "version", "1", "2")]
    assert revert.Drifted().left(after) == []
