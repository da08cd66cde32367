"""Each check of the preflight passes a healthy machine, and reports of a sick one what it saw, what it wants and what to do."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet import preflight, ssh
from fleet.cli import preflight as verb
from fleet.stack import requirements, settings, stack_file
from tests.support.preflight_machines import FAULTS, ROLES, ROOT, after_a_run, healthy, not_ok, prod_requirements

GOLDEN = Path(__file__).parent / "golden" / "preflight"


@pytest.mark.parametrize("facts", [healthy, after_a_run])
def test_a_healthy_machine_passes_before_and_after_its_first_run(facts: Callable[[], dict[str, Any]]) -> None:
    assert not_ok(facts()) == []


@pytest.mark.parametrize("claim", FAULTS)
def test_a_sick_machine_is_reported_with_what_is_wanted_and_what_to_do(claim: str) -> None:
    change, level, check, seen = FAULTS[claim]
    facts = healthy()
    change(facts)
    (result,) = not_ok(facts)
    assert (result.level, result.check, result.seen) == (level, check, seen)
    assert result.wanted and result.next


@pytest.mark.parametrize(
    ("ahead", "findings"),
    [(299, []), (-301, ["301 s behind this machine's"]), (86400, ["86400 s ahead of this machine's"])],
)
def test_a_clock_that_is_off_by_more_than_five_minutes_is_reported(ahead: float, findings: list[str]) -> None:
    assert [result.seen for result in not_ok(healthy(), ahead)] == findings


def test_a_kernel_that_amd_does_not_list_is_an_error() -> None:
    facts = healthy()
    facts["kernel"] = "6.14.0-29-generic"
    facts["headers"] = {"linux-headers-6.14.0-29-generic": "installed"}
    assert [(result.level, result.check) for result in not_ok(facts)] == [("error", "kernel")]


@pytest.mark.parametrize(
    ("loaded", "built", "gfx", "findings"),
    [
        ("AB", "AB", 8, []),
        ("AB", "", 8, []),
        ("AB", "CD", 8, [("warning", "the loaded driver is not the one that DKMS built")]),
        ("AB", "AB", 7, [("error", "6.16.13 is loaded, KFD has 7 gfx942")]),
    ],
)
def test_the_loaded_driver_is_the_built_one_and_has_every_gpu(
    loaded: str, built: str, gfx: int, findings: list[tuple[str, str]]
) -> None:
    facts = after_a_run()
    facts["driver"] |= {"loaded_source": loaded, "built_source": built}
    facts["topology"] = [90402] * gfx
    assert [(result.level, result.seen) for result in not_ok(facts)] == findings


def test_a_disk_needs_room_for_all_that_it_will_hold() -> None:
    facts = healthy()
    for folder in (*facts["space"].values(), *facts["images"].values()):
        folder["free"] = 250_000_000_000  # enough for either
    (result,) = not_ok(facts)
    assert result.seen == "250 GB free at /srv/models, /var/lib/docker"
    assert result.wanted == "215 GB for the weights and 70 GB for the serving image (estimate)"
    facts["space"]["/srv/models"]["device"] = 2  # on disks of their own
    assert not_ok(facts) == []


@pytest.mark.parametrize("line", ["[drm] invalid ip discovery binary signature", "{1}[Hardware Error]: CPER"])
def test_the_kernel_log_reports_known_false_alarms_as_such(line: str) -> None:
    facts = healthy()
    facts["notes"] = [line]
    assert not_ok(facts) == []
    results = preflight.check(preflight.Observation(facts, 0), prod_requirements())
    (seen,) = (result.seen for result in results if result.check == "kernel log")
    assert seen.startswith("known false alarm") and line in seen


def test_the_table_and_the_messages_have_the_golden_text() -> None:
    sick = healthy()
    for claim in ("too-few-gpus", "secure-boot", "an-address-of-the-plan", "a-taken-port", "a-lock"):
        FAULTS[claim][0](sick)
    looks = {"prod-1": healthy(), "prod-2": sick, "prod-3": copy.deepcopy(sick)}
    reports = [
        verb.Report(name, preflight.check(preflight.Observation(facts, 0.2), prod_requirements(name)))
        for name, facts in looks.items()
    ]
    error = "prod-4: connect to root@192.0.2.14:22: no answer within 15 s\n  wanted: an SSH server that lets us in"
    reports.append(verb.Report("prod-4", error=error))
    text = "\n\n".join([verb.as_table(reports, everything=False), *verb.problems(reports)])
    assert text + "\n" == (GOLDEN / "four-machines.txt").read_text()
    assert verb.as_table(reports[:1], everything=True) + "\n" == (GOLDEN / "healthy.txt").read_text()


def test_the_plan_requires_of_a_machine_what_its_roles_need() -> None:
    builder, other = prod_requirements("prod-1"), prod_requirements("prod-2")
    assert set(builder.addresses) - set(other.addresses) == {"github.com:443"}  # only one machine builds
    assert builder.ports == {8000: "glm-0.service", 8001: "glm-1.service"}
    assert prod_requirements(network="none").ports == prod_requirements(network="bridge").ports == {}
    assert (builder.space[0].path, builder.space[0].bytes) == ("/srv/models", 215_400_000_000)
    assert builder.kernels["debian 12"] == ["6.1"]


def test_a_machine_without_gpus_needs_neither_driver_nor_docker_nor_room_for_weights() -> None:
    facts = healthy()
    facts |= {
        "gpus": [],
        "nvme": [],
        "memory": 4_000_000_000,
        "secure_boot": True,
        "blacklists": ["/etc/modprobe.d/gpu.conf"],
    }
    facts |= {"headers": {}, "kernel": "6.14.0-29-generic", "notes": ["amdgpu: Fatal error during GPU init"]}
    facts["docker"]["there"] = True
    for folder in (*facts["space"].values(), *facts["images"].values()):
        folder["free"] = 0
    assert len(not_ok(facts)) > 5
    raw = stack_file.read("prod", ROOT).model_dump(mode="json", exclude_unset=True)
    raw["nodes"][0]["machines"]["prod-2"] |= {"gpus": 0, "vars": {}}
    plan = requirements.of_machine(settings.read(raw, "file"), ROLES, "prod-2", "organization/glm-fleet/prod")
    required = preflight.Requirements.from_plan(ssh.Target("prod-2", "192.0.2.12"), plan)
    assert (required.addresses, required.space, required.ports, required.arguments) == ([], [], {}, [])
    results = preflight.check(preflight.Observation(facts, 0.2), required)
    assert {result.level for result in results} == {"ok"}
    assert [result.check for result in results] == [
        "owner",
        "system",
        "kernel",
        "command line",
        "clock",
        "network",
        "apt",
    ]
    facts |= {"system": "rhel 9.4", "others": ["k3s"]}
    errors = [
        result for result in preflight.check(preflight.Observation(facts, 0.2), required) if result.level == "error"
    ]
    assert [(error.check, error.wanted) for error in errors] == [
        ("system", "one of debian 12, debian 13, ubuntu 22.04, ubuntu 24.04, ubuntu 26.04"),
        ("orchestrator", "a machine without an orchestrator"),
    ]


DISK = preflight.Filesystem("S64GNE0R123456", "/srv", "xfs")
EMPTY = {"serial": DISK.serial, "state": "empty", "why": "", "bytes": 3_840_000_000_000, "mounted": False}


def check_disks(disks: Any, free: int = 3_000_000_000_000) -> list[tuple[str, str, str]]:
    """Return the results about disks and space where the stack wants /srv on a disk of its own."""
    facts = healthy()
    facts["disks"] = disks
    facts["space"]["/srv/models"] |= {"free": free, "device": 2}
    requirements = dataclasses.replace(prod_requirements(), filesystems=(DISK,))
    results = preflight.check(preflight.Observation(facts, 0.2), requirements)
    return [(result.check, result.level, result.seen) for result in results if result.check in ("disks", "space")]


def test_an_empty_disk_holds_the_weights_whatever_is_free_below_its_folder() -> None:
    assert check_disks([EMPTY], free=0) == [
        ("space", "ok", "3000 GB free at /var/lib/docker, 70 GB needed"),
        ("disks", "ok", "disk S64GNE0R123456 for /srv: empty, 3840 GB"),
    ]
    mounted = {**EMPTY, "state": "ready", "mounted": True}
    assert check_disks([mounted], free=0)[0][:2] == ("space", "error")


@pytest.mark.parametrize(
    ("disks", "seen"),
    [
        ([{**EMPTY, "state": "absent", "why": "no disk has this serial"}], ": no disk has this serial"),
        ([{**EMPTY, "state": "refused", "why": "it holds\n ext4"}], ": it holds ext4"),
        ([{**EMPTY, "state": "refused", "why": "x" * 9000}], ": " + "x" * 200),
        ([], ": no answer"),
        ([{**EMPTY, "bytes": 100_000_000_000}], " has 100 GB"),
    ],
    ids=["absent", "not empty", "a long reason", "no answer", "too small"],
)
def test_a_disk_that_is_absent_not_empty_or_too_small_is_an_error(disks: Any, seen: str) -> None:
    assert check_disks(disks)[1] == ("disks", "error", f"disk S64GNE0R123456 for /srv{seen}")
