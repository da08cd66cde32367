"""What is undone before the roles run, and what is told when no role put a thing back."""

from typing import Any

import pytest

from fleet.drift import Difference
from fleet.managed import revert

UNIT = {"state": "active", "at_boot": "enabled", "unit_file": "/lib/systemd/system/docker.service", "drop_ins": []}
FILE = {"type": "file", "mode": "0644", "owner": "root", "group": "root", "sha256": "ab"}
BOX = {"running": True, "image": "a@sha256:1", "image_id": "sha256:2", "user": "10001", "environment": ["A=1"]}


@pytest.mark.parametrize(
    ("what", "right", "now", "asked"),
    [
        ("unit docker.service", UNIT, UNIT, {}),
        ("unit docker.service", UNIT, {}, {}),  # gone: what brings it back is a role's business
        ("unit docker.service", UNIT, {**UNIT, "state": "inactive", "at_boot": "disabled"}, {}),
        ("unit docker.service", UNIT, {**UNIT, "at_boot": "masked"}, {"unmask": ["docker.service"]}),
        ("unit docker.service", UNIT, {**UNIT, "at_boot": "masked-runtime"}, {"unmask": ["docker.service"]}),
        (
            "unit docker.service",
            {**UNIT, "drop_ins": ["/etc/systemd/system/docker.service.d/a.conf 0123"]},
            {
                **UNIT,
                "drop_ins": [
                    "/etc/systemd/system/docker.service.d/a.conf 4567",
                    "/etc/systemd/system/docker.service.d/b.conf 89ab",
                ],
            },
            {"files": ["/etc/systemd/system/docker.service.d/b.conf"], "restart": ["docker.service"]},
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
def test_what_somebody_added_is_undone_and_what_a_role_puts_right_is_left_to_it(
    what: str, right: dict[str, Any], now: dict[str, Any], asked: dict[str, list[Any]]
) -> None:
    assert revert.plan({what: right}, {what: now}) == asked


def test_only_what_a_refresh_told_is_undone() -> None:
    expected, seen = {"package a": {"held": False}, "package b": {"held": False}}, {"package a": {"held": True}}
    drifted = revert.Drifted({"package a"}, expected, {**seen, "package b": {"held": True}})
    assert drifted.variables == {"revert": {"unhold": ["a"]}}
    assert revert.Drifted().variables == {}


def test_what_is_after_the_run_as_it_was_before_it_is_told() -> None:
    expected = {"package a": {"version": "1"}, "package b": {"version": "1"}, "file /x": {"mode": "0644"}}
    seen = {"package a": {"version": "2"}, "package b": {"version": "2"}, "file /x": {"mode": "0600"}}
    after = {"package a": {"version": "2"}, "package b": {"version": "1"}, "file /x": {"mode": "0640"}}
    drifted = revert.Drifted(set(expected), expected, seen)
    assert drifted.left(after) == [Difference("package", "a", "version", "1", "2")]
    assert revert.Drifted().left(after) == []
