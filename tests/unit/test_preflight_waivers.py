"""A waived check of the preflight is a warning until the waiver's last day; warnings expected on every machine of a source are not shown."""

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
from tests.support.preflight_machines import FAULTS, ROLES, ROOT, healthy, prod_requirements

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
    return dataclasses.replace(prod_requirements(), waivers=dict.fromkeys(names, waiver))


def findings_of(requirements: preflight.Requirements, *sick: str) -> list[preflight.CheckResult]:
    facts = healthy()
    for claim in sick:
        FAULTS[claim][0](facts)
    results = preflight.check(preflight.Observation(facts, 0), requirements, TODAY)
    return [result for result in results if result.level != "ok"]


def test_each_check_can_be_waived_but_the_command_line_and_the_owner() -> None:
    """The command line is never wrong; only the stack that owns a machine can give it up."""
    names = {form.ok(words, "").name for words in WORDS}
    waivable, file = set(preflight_checks.WAIVABLE), "fleet/stack/preflight_checks.py"
    never = {"preflight-owner", "preflight-command-line"}
    assert names - waivable == never, f"add the check of fleet/preflight/ to WAIVABLE in {file}"
    assert waivable - names == set(), f"no such check in fleet/preflight/: remove it from {file}"
    unknown = set(Nodes.EXPECTED_WARNINGS) - WORDS
    assert unknown == set(), "no such check: correct EXPECTED_WARNINGS in fleet/sources/lab/form.py"
    page = (ROOT / "docs" / "preflight.md").read_text()
    listed = set(re.findall("`(preflight-[a-z-]+)`", page))
    assert waivable ^ listed == set(), "docs/preflight.md lists the checks of fleet/stack/preflight_checks.py"


@pytest.mark.parametrize(
    ("day", "level", "reason"),
    [
        ("2026-11-26", "warning", "(waived until 2026-11-26: ticket 4711)"),
        ("2026-11-25", "error", "(its waiver expired on 2026-11-25 and does not count)"),
    ],
)
def test_a_waiver_counts_up_to_its_last_day(day: str, level: str, reason: str) -> None:
    waivable, other = findings_of(waived(day, "preflight-secure-boot"), "secure-boot", "too-few-gpus")
    assert (waivable.level, waivable.seen.splitlines()[-1]) == (level, reason)
    assert other == findings_of(prod_requirements(), "too-few-gpus")[0], "what is not waived stops as before"


def test_a_machine_without_a_finding_does_not_mention_a_waiver() -> None:
    assert findings_of(waived("2026-11-26", *preflight_checks.WAIVABLE)) == []


def test_a_lab_machine_reports_no_expected_warning_and_every_error() -> None:
    """Of the stack file lab: its containers share this machine's cgroups, kernel, memory and disks."""
    plan = requirements.of_machine(stack_file.read("lab", ROOT), ROLES, "glm-1", "organization/glm-fleet/lab")
    lab = dataclasses.replace(prod_requirements(), expected_warnings=tuple(plan["usual"]))
    usual = ("old-cgroups", "little-memory", "no-nvme", "a-source-of-apt")
    assert findings_of(lab, *usual) == []
    errors = findings_of(lab, *usual, "an-address-of-the-plan", "a-lock")
    assert [error.check for error in errors] == ["network", "apt"]


def test_the_preflight_gets_only_its_own_of_the_stacks_waivers() -> None:
    """The owner of a machine is none of them."""
    config = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]
    raw: dict[str, Any] = {key.removeprefix(stack_file.PREFIX): value for key, value in config.items()}
    names = ("preflight-space", "preflight-owner", "context-of-model")
    raw["waivers"] = {name: {"reason": "ticket 4711", "expires": "2026-12-31"} for name in names}
    plan = requirements.of_machine(settings.read(raw, "file"), ROLES, "prod-1", "prod")
    assert plan["waivers"] == {"preflight-space": {"reason": "ticket 4711", "expires": "2026-12-31"}}
    (waiver,) = preflight.Requirements.from_plan(prod_requirements().target, plan).waivers.values()
    assert waiver == findings.Waiver("ticket 4711", datetime.date(2026, 12, 31))


def test_the_verb_shows_what_is_waived() -> None:
    report = verb.Report("prod-1", findings_of(waived("2026-12-31", "preflight-secure-boot"), "secure-boot"))
    assert not report.stops
    text = "\n\n".join([verb.as_table([report], everything=False), *verb.problems([report])])
    assert text + "\n" == (GOLDEN / "waived.txt").read_text()


def test_an_error_is_a_fault_in_json_as_in_earlier_releases() -> None:
    report = verb.Report("prod-1", findings_of(prod_requirements(), "secure-boot"))
    ((row,),) = (node["verdicts"] for node in json.loads(verb.to_json([report])))
    assert list(row) == ["check", "level", "seen", "wanted", "next"]
    assert (row["check"], row["level"]) == ("secure boot", "fault")
