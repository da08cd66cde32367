"""Drift as data and as text: golden/managed_differences/drift.txt is what a reviewer reads for each kind of thing."""

import grp
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fleet import drift
from fleet.ansible import declarations
from fleet.drift import Difference
from fleet.managed import differences, managed_set, on_node_read
from fleet.provider.properties import to_dict, to_struct

GOLDEN = Path(__file__).parent / "golden" / "managed_differences"

FILE = {"type": "file", "mode": "0644", "owner": "root", "group": "root", "sha256": "aaaaaaaaaaaaaaaaaaaa"}
UNIT = {"state": "active", "at_boot": "enabled", "unit_file": "/etc/x", "drop_ins": [], "loaded": "as on disk"}
CONTAINER = {"running": True, "image": "vllm@sha256:ab", "ReadonlyRootfs": True, "CapDrop": '["ALL"]'}

# Thing → expected, seen.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "file /etc/mode": (FILE, FILE | {"mode": "0600"}),
    "file /etc/content": (FILE, FILE | {"sha256": "bbbbbbbbbbbbbbbbbbbb"}),
    "file /etc/absent": (FILE, {}),
    "file /etc/back": ({}, FILE),
    "file /etc/folder": (FILE, {"type": "directory", "mode": "0755"}),
    "file /etc/link": ({"type": "link", "target": "/a"}, {"type": "link", "target": "/b"}),
    "unit stopped.service": (UNIT, UNIT | {"state": "inactive"}),
    "unit disabled.service": (UNIT, UNIT | {"at_boot": "disabled"}),
    "unit overridden.service": (UNIT, UNIT | {"drop_ins": ["/etc/systemd/system/x.d/override.conf 0123456789ab"]}),
    "unit edited.service": (UNIT, UNIT | {"loaded": "older than on disk"}),
    "container glm-0": (CONTAINER, CONTAINER | {"running": False, "Privileged": True, "image": "vllm@sha256:cd"}),
    "container glm-1": (CONTAINER, {}),
    "package docker.io": ({"version": "20.10", "held": True}, {"version": "26.1", "held": False}),
    "sysctl kernel.numa_balancing": ({"value": "0"}, {"value": "1"}),
    "options of /etc/docker/daemon.json": ({"later": ["log-driver"]}, {"later": ["log-driver", "mtu"]}),
    "user vllm": ({"uid": "10001", "groups": ["render", "video"]}, {"uid": "10001", "groups": ["render"]}),
    "kernel started for /etc/default/grub.d/fleet.cfg": ({"arguments": ["ro", "iommu=pt"]}, {"arguments": ["ro"]}),
    "files of /srv/models/manifest.json": (
        {"files": "2", "bytes": "10", "sha256": "a" * 64},
        {"files": "2", "bytes": "4", "sha256": "b" * 64, "wrong": ["model.safetensors (absent)"]},
    ),
}


EXPECTED = {thing: expected for thing, (expected, _) in CASES.items()}
DRIFT = differences.drift(EXPECTED, {thing: seen for thing, (_, seen) in CASES.items()})


def test_each_difference_has_its_text() -> None:
    assert "".join(f"{difference}\n" for difference in DRIFT) == (GOLDEN / "drift.txt").read_text()


def test_a_state_keeps_each_difference() -> None:
    state = to_dict(to_struct({"drift": [difference.to_json() for difference in DRIFT]}))
    assert drift.recorded(state) == DRIFT
    mode = {"kind": "file", "name": "/etc/mode", "attribute": "mode", "expected": "0644", "seen": "0600"}
    assert state["drift"][0] == mode


def test_a_state_of_release_0_1_gives_a_difference_with_the_words_of_that_release() -> None:
    words = {"what": "kernel started for /etc/a b", "expected": "kernel argument iommu=pt", "seen": "absent"}
    (difference,) = drift.recorded({"drift": [words]})
    assert (difference.kind, difference.name, difference.attribute) == ("kernel started for", "/etc/a b", "")
    assert str(difference) == "kernel started for /etc/a b (absent, wanted kernel argument iommu=pt)"


@pytest.mark.parametrize("thing", CASES)
def test_a_thing_as_expected_is_no_drift(thing: str) -> None:
    assert differences.drift({thing: EXPECTED[thing]}, {thing: EXPECTED[thing]}) == []


@pytest.mark.parametrize("thing", [thing for thing, expected in EXPECTED.items() if expected])
def test_an_absent_thing_is_drift(thing: str) -> None:
    assert differences.drift({thing: EXPECTED[thing]}, {}) == [Difference.of(thing, "present", True, False)]


def test_a_run_declares_nothing_that_only_follows_from_a_thing() -> None:
    declared = managed_set.Declared.from_state({what: {} for what in CASES})
    assert {what.split()[0] for what in declared.things} == {"file", "unit", "package", "sysctl", "user"}


def test_declarations_of_two_runs_are_one_set() -> None:
    first = managed_set.Declared({"file /a": True, "file /b": False})
    second = managed_set.Declared({"file /b": True, "unit c": False})
    assert first.merge(second).things == {"file /a": True, "file /b": True, "unit c": False}
    assert managed_set.Declared.from_json(first.to_json()) == first


def declare(action: str, args: dict[str, Any]) -> dict[str, bool]:
    """Return what one result of a module declares, and whether we created it."""
    event = {"event": "ok", "action": f"ansible.builtin.{action}", "res": {"args": args, "changed": True}}
    return declarations.collect([event]).things


@pytest.mark.parametrize(("file", "ours"), [("/etc/sysctl.d/90-fleet.conf", True), ("/etc/sysctl.conf", False)])
def test_the_system_s_own_sysctl_file_never_counts_as_ours(file: str, ours: bool) -> None:
    """A delete removes what counts as ours."""
    args = {"name": "vm.max_map_count", "sysctl_file": file}
    assert declare("sysctl", args)[f"file {file}"] is ours


@pytest.mark.parametrize(
    ("state", "ours"), [("started", True), ("restarted", False), ("reloaded", False), ("stopped", False)]
)
def test_a_unit_that_a_run_only_restarts_does_not_count_as_ours(state: str, ours: bool) -> None:
    assert declare("systemd_service", {"name": "docker.service", "state": state}) == {"unit docker.service": ours}


def test_the_state_of_a_file_has_its_group(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    other = next(group for group in grp.getgrall() if group.gr_gid != file.stat().st_gid)
    before = on_node_read.read_file(str(file))
    with mock.patch.object(on_node_read.grp, "getgrgid", return_value=other):
        seen = on_node_read.read_file(str(file))
    difference = Difference("file", str(file), "group", before["group"], other.gr_name)
    assert differences.drift({f"file {file}": before}, {f"file {file}": seen}) == [difference]
