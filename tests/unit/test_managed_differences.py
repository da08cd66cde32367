"""Drift as data and in words: golden/managed_differences/drift.txt is what a reviewer reads for each kind of thing."""

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

# What → expected, seen.
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


def test_each_difference_is_told_in_words() -> None:
    found = differences.drift(
        {what: case[0] for what, case in CASES.items()}, {what: case[1] for what, case in CASES.items()}
    )
    assert "".join(f"{one}\n" for one in found) == (GOLDEN / "drift.txt").read_text()


def test_a_difference_is_read_again_from_the_state_that_it_was_written_to() -> None:
    found = differences.drift(
        {what: case[0] for what, case in CASES.items()}, {what: case[1] for what, case in CASES.items()}
    )
    state = to_dict(to_struct({"drift": [one.to_json() for one in found]}))
    assert drift.recorded(state) == found
    assert state["drift"][0] == {
        "kind": "file",
        "name": "/etc/mode",
        "attribute": "mode",
        "expected": "0644",
        "seen": "0600",
    }


def test_what_release_0_1_wrote_in_words_is_read_as_these_words() -> None:
    (one,) = drift.recorded(
        {"drift": [{"what": "kernel started for /etc/a b", "expected": "kernel argument iommu=pt", "seen": "absent"}]}
    )
    assert (one.kind, one.name, one.attribute) == ("kernel started for", "/etc/a b", "")
    assert str(one) == "kernel started for /etc/a b (absent, wanted kernel argument iommu=pt)"


@pytest.mark.parametrize("what", CASES)
def test_a_thing_as_expected_is_no_drift(what: str) -> None:
    assert differences.drift({what: CASES[what][0]}, {what: CASES[what][0]}) == []


@pytest.mark.parametrize("what", CASES)
def test_a_thing_that_is_gone_from_the_answer_is_drift(what: str) -> None:
    if CASES[what][0]:
        assert differences.drift({what: CASES[what][0]}, {}) == [Difference.of(what, "present", True, False)]


def test_what_follows_from_a_thing_is_not_asked_for_by_its_own_name() -> None:
    declared = managed_set.Declared.from_state({what: {} for what in CASES})
    assert {what.split()[0] for what in declared.things} == {"file", "unit", "package", "sysctl", "user"}


def test_declarations_of_two_runs_are_one_set() -> None:
    first, second = (
        managed_set.Declared({"file /a": True, "file /b": False}),
        managed_set.Declared({"file /b": True, "unit c": False}),
    )
    assert first.merge(second).things == {"file /a": True, "file /b": True, "unit c": False}
    assert managed_set.Declared.from_json(first.to_json()) == first


def _declared(action: str, args: dict[str, Any], **res: Any) -> dict[str, bool]:
    """Return what one result of a module declares, and whether it counts as made by us."""
    event = {"event": "ok", "action": f"ansible.builtin.{action}", "res": {"args": args, "changed": True, **res}}
    return declarations.collect([event]).things


@pytest.mark.parametrize(("file", "made"), [("/etc/sysctl.d/90-fleet.conf", True), ("/etc/sysctl.conf", False)])
def test_the_systems_own_sysctl_file_never_counts_as_made_by_us(file: str, made: bool) -> None:
    """What counts as made is removed by a delete."""
    args = {"name": "vm.max_map_count", "sysctl_file": file}
    assert _declared("sysctl", args)[f"file {file}"] is made


@pytest.mark.parametrize(
    ("state", "made"), [("started", True), ("restarted", False), ("reloaded", False), ("stopped", False)]
)
def test_a_unit_that_was_only_restarted_does_not_count_as_made_by_us(state: str, made: bool) -> None:
    assert _declared("systemd_service", {"name": "docker.service", "state": state}) == {"unit docker.service": made}


def test_a_file_is_read_with_its_group(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    other = next(group for group in grp.getgrall() if group.gr_gid != file.stat().st_gid)
    before = on_node_read.read_file(str(file))
    with mock.patch.object(on_node_read.grp, "getgrgid", return_value=other):
        seen = on_node_read.read_file(str(file))
    what = f"file {file}"
    difference = Difference("file", str(file), "group", before["group"], other.gr_name)
    assert differences.drift({what: before}, {what: seen}) == [difference]
