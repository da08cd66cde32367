"""What a stack waives of the preflight is told and stops nothing until its last day; what every machine of its source says is no news."""

import dataclasses
import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import findings, preflight
from fleet.cli import preflight as verb
from fleet.preflight import form
from fleet.sources.lab.form import Nodes
from fleet.stack import preflight_checks, requirements, settings, stack_file
from tests.support.preflight_machines import ROLES, ROOT, SICK, healthy, wanted

GOLDEN = Path(__file__).parent / "golden" / "preflight"

TODAY = datetime.date(2026, 11, 26)
WORDS = {
    name
    for file in ("hardware.py", "host.py")
    for name in re.findall(
        r'yield (?:ok|warning|error|report)\(\s*"([^"]+)"', (Path(preflight.__file__).parent / file).read_text()
    )
}


def waived(day: str, *names: str) -> preflight.Requirements:
    waiver = findings.Waiver("ticket 4711", datetime.date.fromisoformat(day))
    return dataclasses.replace(wanted(), waivers=dict.fromkeys(names, waiver))


def judged(ask: preflight.Requirements, *sick: str) -> list[preflight.CheckResult]:
    facts = healthy()
    for claim in sick:
        SICK[claim][0](facts)
    return [one for one in preflight.check(preflight.Observation(facts, 0), ask, TODAY) if one.level != "ok"]


def test_both_halves_have_the_same_names() -> None:
    """But for what is never wrong, and whose it is: that is the other stack's to give up."""
    names = {form.ok(one, "").name for one in WORDS}
    waivable = set(preflight_checks.WAIVABLE)
    assert names - waivable == {"preflight-owner", "preflight-command-line"}, (
        "add the check of fleet/preflight/ to WAIVABLE in fleet/stack/preflight_checks.py"
    )
    assert waivable - names == set(), (
        "no such check in fleet/preflight/: remove it from fleet/stack/preflight_checks.py"
    )
    assert set(Nodes.EXPECTED_WARNINGS) <= WORDS, (
        "no such check: correct EXPECTED_WARNINGS in fleet/sources/lab/form.py"
    )
    page = (ROOT / "docs" / "preflight.md").read_text()
    listed = set(re.findall("`(preflight-[a-z-]+)`", page))
    assert waivable ^ listed == set(), "docs/preflight.md lists the checks of fleet/stack/preflight_checks.py"


@pytest.mark.parametrize(
    ("day", "level", "said"),
    [
        ("2026-11-26", "warning", "(waived until 2026-11-26: ticket 4711)"),
        ("2026-11-25", "error", "(its waiver expired on 2026-11-25 and does not count)"),
    ],
)
def test_a_waiver_counts_up_to_its_last_day(day: str, level: str, said: str) -> None:
    one, other = judged(waived(day, "preflight-secure-boot"), "secure-boot", "too-few-gpus")
    assert (one.level, one.seen.splitlines()[-1]) == (level, said)
    assert other == judged(wanted(), "too-few-gpus")[0], "what is not waived stops as before"


def test_a_machine_that_is_right_says_nothing_of_a_waiver() -> None:
    assert judged(waived("2026-11-26", *preflight_checks.WAIVABLE)) == []


def test_a_lab_s_machines_are_what_they_always_are_and_a_fault_is_one_there_too() -> None:
    """Of the stack file lab: its containers share this machine's cgroups, kernel, memory and disks."""
    told = requirements.of_machine(stack_file.read("lab", ROOT), ROLES, "glm-1", "organization/glm-fleet/lab")
    ask = dataclasses.replace(wanted(), expected_warnings=tuple(told["usual"]))
    usual = ("old-cgroups", "little-memory", "no-nvme", "a-source-of-apt")
    assert judged(ask, *usual) == []
    assert [one.check for one in judged(ask, *usual, "an-address-of-the-plan", "a-lock")] == ["network", "apt"]


def test_of_the_stack_s_waivers_the_preflight_gets_its_own() -> None:
    """The owner of a machine is none of them."""
    config = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]
    raw: dict[str, Any] = {key.removeprefix(stack_file.PREFIX): value for key, value in config.items()}
    names = ("preflight-space", "preflight-owner", "context-of-model")
    raw["waivers"] = {name: {"reason": "ticket 4711", "expires": "2026-12-31"} for name in names}
    told = requirements.of_machine(settings.read(raw, "file"), ROLES, "prod-1", "prod")
    assert told["waivers"] == {"preflight-space": {"reason": "ticket 4711", "expires": "2026-12-31"}}
    (waiver,) = preflight.Requirements.from_plan(wanted().target, told).waivers.values()
    assert waiver == findings.Waiver("ticket 4711", datetime.date(2026, 12, 31))


def test_the_verb_shows_what_is_waived() -> None:
    report = verb.Report("prod-1", judged(waived("2026-12-31", "preflight-secure-boot"), "secure-boot"))
    assert not report.stops
    text = "\n\n".join([verb.as_table([report], everything=False), *verb.problems([report])])
    assert text + "\n" == (GOLDEN / "waived.txt").read_text()


def test_an_error_is_a_fault_in_json_as_in_earlier_releases() -> None:
    report = verb.Report("prod-1", judged(wanted(), "secure-boot"))
    ((row,),) = (one["verdicts"] for one in json.loads(verb.to_json([report])))
    assert list(row) == ["check", "level", "seen", "wanted", "next"]
    assert (row["check"], row["level"]) == ("secure boot", "fault")
