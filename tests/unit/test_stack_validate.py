"""What rules find is told at its place in the stack file, once; a waiver makes it a warning until its last day; `fleet plan` draws it."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors
from fleet.cli import main
from fleet.stack import capacity, role_vars, settings, stack_file, validate
from tests.support.builders import prod

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "stack"
TODAY = datetime.date(2026, 11, 26)
ROLES = role_vars.load(ROOT / "roles")


def judged(raw: dict[str, Any]) -> validate.Findings:
    """Return what is said of a stack."""
    return validate.validate(settings.read(raw, "stacks/Pulumi.prod.yaml"), ROLES, "stacks/Pulumi.prod.yaml", TODAY)


def waived(name: str, expires: str) -> dict[str, Any]:
    """Return a waiver of one rule."""
    return {name: {"reason": "measured, ticket 4711", "expires": expires}}


@pytest.mark.parametrize("stack", ["prod", "staging", "dev", "dr", "lab"])
def test_the_stacks_of_this_repository_have_nothing_wrong(stack: str) -> None:
    told = validate.validate(stack_file.read(stack, ROOT), ROLES, stack, TODAY)
    assert (told.mistakes, told.warnings) == ([], [])


def test_what_four_machines_share_is_told_once_where_it_stands() -> None:
    raw = prod()
    raw["vars"]["vllm_flags"]["max-model-len"] = 200000
    assert [error.key for error in judged(raw).mistakes] == ["vars.vllm_flags.max-model-len"]


def test_what_one_machine_says_is_told_at_that_machine() -> None:
    raw = prod()
    raw["nodes"]["machines"]["prod-4"]["vars"]["vllm_flags"]["max-model-len"] = 200000
    assert [error.key for error in judged(raw).mistakes] == ["nodes.machines.prod-4.vars.vllm_flags.max-model-len"]


def test_an_entry_that_the_machine_does_not_set_is_told_at_the_stack() -> None:
    raw = prod()
    del raw["vars"]["vllm_flags"]["limit-mm-per-prompt"]  # prod-4 has vllm_flags of its own, without this one
    assert [error.key for error in judged(raw).warnings] == ["vars.vllm_flags.limit-mm-per-prompt"]


def test_what_a_stack_leaves_out_is_judged_as_the_roles_have_it() -> None:
    raw = prod()
    for name in ("vllm_flags", "vllm_replicas"):
        del raw["vars"][name]
    raw["nodes"]["machines"] = {"prod-1": raw["nodes"]["machines"]["prod-1"]}
    assert judged(raw).mistakes == []
    raw["nodes"]["defaults"]["gpus"] = 4
    assert {error.key for error in judged(raw).mistakes} == {"vars.vllm_replicas[1].gpus"}


@pytest.mark.parametrize(
    ("expires", "stops", "said"),
    [
        ("2026-11-26", False, "(waived until 2026-11-26: measured, ticket 4711)"),
        ("2026-11-25", True, "(its waiver expired on 2026-11-25 and does not count)"),
    ],
)
def test_a_waiver_counts_up_to_its_last_day(expires: str, stops: bool, said: str) -> None:
    raw = prod(waivers=waived("context-of-model", expires))
    raw["vars"]["vllm_flags"]["max-model-len"] = 200000
    told = judged(raw)
    assert (len(told.mistakes), len(told.warnings)) == ((1, 0) if stops else (0, 1))
    assert said in str((told.mistakes + told.warnings)[0])


def test_a_value_of_another_type_is_told_before_any_rule_reads_it() -> None:
    raw = prod()
    raw["vars"] |= {"vllm_pids_limit": "many", "vllm_entrypoint": ["bash"]}
    told = judged(raw)
    assert told.mistyped and [error.key for error in told.mistakes] == ["vars.vllm_pids_limit"]


def test_a_finding_has_the_form_of_every_message() -> None:
    raw = prod()
    raw["vars"]["vllm_flags"]["tensor-parallel-size"] = 1
    raw["vars"]["vllm_replicas"] = [{"name": "glm-0", "port": 8000, "gpus": [0]}]
    assert "\n".join(map(str, judged(raw).mistakes)) + "\n" == (GOLDEN / "a-finding.txt").read_text()


@pytest.mark.parametrize("stack", ["prod", "staging", "lab"])
def test_a_plan_draws_what_fits(stack: str) -> None:
    assert capacity.report(stack_file.read(stack, ROOT), ROLES) + "\n" == (GOLDEN / f"{stack}.txt").read_text()


def test_a_plan_that_does_not_fit_is_drawn_too() -> None:
    raw = prod()
    raw["vars"]["vllm_flags"]["tensor-parallel-size"] = 1
    raw["vars"]["vllm_replicas"] = [{"name": "glm-0", "port": 8000, "gpus": [0]}]
    text = capacity.report(settings.read(raw, "file"), ROLES)
    assert text + "\n" == (GOLDEN / "does-not-fit.txt").read_text()


def test_fleet_plan_prints_the_plan_and_ends_well() -> None:
    done = testing.CliRunner().invoke(main.main, ["plan", "-s", "prod"])
    assert (done.exit_code, done.output) == (0, (GOLDEN / "prod.txt").read_text())


def test_a_stack_without_a_file_is_told_with_the_nearest_name() -> None:
    with pytest.raises(errors.SettingsError) as caught:
        stack_file.read("prdo", ROOT)
    assert "did you mean prod?" in str(caught.value)


@pytest.mark.parametrize("value", ["{{ x }}", 5, None, [], {}, "", [None], {"a": None}, [[1]]], ids=repr)
def test_whatever_a_variable_holds_is_judged_without_a_traceback(value: object) -> None:
    """Each variable of each role in turn, beside what the stack prod says: mistakes are found, and nothing else is raised."""
    for name in ROLES.options:
        raw = prod()
        assert isinstance(judged({**raw, "vars": {**raw["vars"], name: value}}), validate.Findings)
