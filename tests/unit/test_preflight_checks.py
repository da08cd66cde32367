"""Each check of the preflight lets a healthy machine pass, and says of a sick one what was seen, what is wanted, what to do."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet import preflight
from fleet.cli import preflight as verb
from tests.support.preflight_machines import SICK, after_a_run, healthy, judged, wanted

GOLDEN = Path(__file__).parent / "golden" / "preflight"


@pytest.mark.parametrize("facts", [healthy, after_a_run])
def test_a_healthy_machine_passes_before_and_after_its_first_run(facts: Callable[[], dict[str, Any]]) -> None:
    assert judged(facts()) == []


@pytest.mark.parametrize("claim", SICK)
def test_a_sick_machine_is_told_with_what_is_wanted_and_what_to_do(claim: str) -> None:
    change, level, check, seen = SICK[claim]
    facts = healthy()
    change(facts)
    (result,) = judged(facts)
    assert (result.level, result.check, result.seen) == (level, check, seen)
    assert result.wanted and result.next


@pytest.mark.parametrize(
    ("ahead", "told"),
    [(299, []), (-301, ["301 s behind this machine's"]), (86400, ["86400 s ahead of this machine's"])],
)
def test_a_clock_that_is_off_is_told(ahead: float, told: list[str]) -> None:
    assert [one.seen for one in judged(healthy(), ahead)] == told


def test_a_kernel_that_amd_does_not_list_is_told() -> None:
    facts = healthy()
    facts["kernel"] = "6.14.0-29-generic"
    facts["headers"] = {"linux-headers-6.14.0-29-generic": "installed"}
    assert [(one.level, one.check) for one in judged(facts)] == [("error", "kernel")]


@pytest.mark.parametrize(
    ("loaded", "built", "gfx", "told"),
    [
        ("AB", "AB", 8, []),
        ("AB", "", 8, []),
        ("AB", "CD", 8, [("warning", "the loaded driver is not the one that DKMS built")]),
        ("AB", "AB", 7, [("error", "6.16.13 is loaded, KFD has 7 gfx942")]),
    ],
)
def test_the_loaded_driver_is_the_built_one_and_has_every_gpu(
    loaded: str, built: str, gfx: int, told: list[tuple[str, str]]
) -> None:
    facts = after_a_run()
    facts["driver"] |= {"loaded_source": loaded, "built_source": built}
    facts["topology"] = [90402] * gfx
    assert [(one.level, one.seen) for one in judged(facts)] == told


def test_a_disk_holds_all_that_will_lie_on_it() -> None:
    facts = healthy()
    for one in (*facts["space"].values(), *facts["images"].values()):
        one["free"] = 250_000_000_000  # enough for either
    (result,) = judged(facts)
    assert result.seen == "250 GB free at /srv/models, /var/lib/docker"
    assert result.wanted == "215 GB for the weights and 70 GB for the serving image (estimate)"
    facts["space"]["/srv/models"]["device"] = 2  # on disks of their own
    assert judged(facts) == []


@pytest.mark.parametrize("line", ["[drm] invalid ip discovery binary signature", "{1}[Hardware Error]: CPER"])
def test_false_alarms_that_users_know_are_named_as_such(line: str) -> None:
    facts = healthy()
    facts["notes"] = [line]
    assert judged(facts) == []
    told = [one.seen for one in preflight.check(preflight.Observation(facts, 0), wanted()) if one.check == "kernel log"]
    assert len(told) == 1 and told[0].startswith("known false alarm") and line in told[0]


def test_the_table_and_the_messages_read_as_they_should() -> None:
    sick = healthy()
    for claim in ("too-few-gpus", "secure-boot", "an-address-of-the-plan", "a-taken-port", "a-lock"):
        SICK[claim][0](sick)
    looks = {"prod-1": healthy(), "prod-2": sick, "prod-3": copy.deepcopy(sick)}
    reports = [
        verb.Report(name, preflight.check(preflight.Observation(facts, 0.2), wanted(name)))
        for name, facts in looks.items()
    ]
    reports.append(
        verb.Report(
            "prod-4",
            error="prod-4: connect to root@192.0.2.14:22: no answer within 15 s\n  wanted: an SSH server that lets us in",
        )
    )
    text = "\n\n".join([verb.as_table(reports, everything=False), *verb.problems(reports)])
    assert text + "\n" == (GOLDEN / "four-machines.txt").read_text()
    assert verb.as_table(reports[:1], everything=True) + "\n" == (GOLDEN / "healthy.txt").read_text()


def test_the_plan_wants_of_a_machine_what_its_roles_will_ask() -> None:
    builder, other = wanted("prod-1"), wanted("prod-2")
    assert set(builder.addresses) - set(other.addresses) == {"github.com:443"}  # only one machine builds
    assert builder.ports == {8000: "glm-0.service", 8001: "glm-1.service"}
    assert wanted(network="none").ports == wanted(network="bridge").ports == {}
    assert next((one.path, one.bytes) for one in builder.space) == ("/srv/models", 215_400_000_000)
    assert builder.kernels["debian 12"] == ("6.1",)


DISK = preflight.Filesystem("S64GNE0R123456", "/srv", "xfs")
EMPTY = {"serial": DISK.serial, "state": "empty", "why": "", "bytes": 3_840_000_000_000, "mounted": False}


def of_disks(disks: Any, free: int = 3_000_000_000_000) -> list[tuple[str, str, str]]:
    """Return what is said of disks and space where the stack wants /srv on a disk of its own."""
    facts = healthy()
    facts["disks"] = disks
    facts["space"]["/srv/models"] |= {"free": free, "device": 2}
    ask = dataclasses.replace(wanted(), filesystems=(DISK,))
    found = preflight.check(preflight.Observation(facts, 0.2), ask)
    return [(one.check, one.level, one.seen) for one in found if one.check in ("disks", "space")]


def test_an_empty_disk_takes_the_weights_whatever_is_free_below_its_folder() -> None:
    assert of_disks([EMPTY], free=0) == [
        ("space", "ok", "3000 GB free at /var/lib/docker, 70 GB needed"),
        ("disks", "ok", "disk S64GNE0R123456 for /srv: empty, 3840 GB"),
    ]
    mounted = {**EMPTY, "state": "ready", "mounted": True}
    assert of_disks([mounted], free=0)[0][:2] == ("space", "error")


@pytest.mark.parametrize(
    ("disks", "seen"),
    [
        ([{**EMPTY, "state": "absent", "why": "no disk has this serial"}], "no disk has this serial"),
        ([{**EMPTY, "state": "refused", "why": "it holds\n ext4"}], "it holds ext4"),
        ([{**EMPTY, "state": "refused", "why": "x" * 9000}], "x" * 200),
        ([], "no answer"),
    ],
)
def test_a_disk_that_is_absent_or_holds_anything_is_a_fault(disks: Any, seen: str) -> None:
    assert of_disks(disks)[1] == ("disks", "error", f"disk S64GNE0R123456 for /srv: {seen}")


def test_a_disk_that_is_too_small_is_a_fault() -> None:
    small = {**EMPTY, "bytes": 100_000_000_000}
    assert of_disks([small])[1] == ("disks", "error", "disk S64GNE0R123456 for /srv has 100 GB")
