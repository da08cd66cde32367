"""A finding is reported once, at its place in the stack file; a waiver makes it a warning until its last day; `fleet plan` draws it."""

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


def findings(raw: dict[str, Any]) -> validate.Findings:
    return validate.validate(settings.read(raw, "stacks/Pulumi.prod.yaml"), ROLES, "stacks/Pulumi.prod.yaml", TODAY)


@pytest.mark.parametrize("stack", ["prod", "staging", "dev", "dr", "lab"])
def test_the_stacks_of_this_repository_have_no_finding(stack: str) -> None:
    report = validate.validate(stack_file.read(stack, ROOT), ROLES, stack, TODAY)
    assert (report.mistakes, report.warnings) == ([], [])


def test_a_mistake_that_four_machines_share_is_reported_once_at_its_place() -> None:
    raw = prod()
    raw["vars"]["vllm_flags"]["max-model-len"] = 200000
    assert [error.key for error in findings(raw).mistakes] == ["vars.vllm_flags.max-model-len"]


def test_a_mistake_of_one_machine_is_reported_at_that_machine() -> None:
    raw = prod()
    raw["nodes"]["machines"]["prod-4"]["vars"]["vllm_flags"]["max-model-len"] = 200000
    assert [error.key for error in findings(raw).mistakes] == ["nodes.machines.prod-4.vars.vllm_flags.max-model-len"]


def test_a_finding_about_an_entry_that_the_machine_does_not_set_is_reported_at_the_stack() -> None:
    raw = prod()
    del raw["vars"]["vllm_flags"]["limit-mm-per-prompt"]  # prod-4 has vllm_flags of its own, without this one
    assert [error.key for error in findings(raw).warnings] == ["vars.vllm_flags.limit-mm-per-prompt"]


def test_a_variable_that_a_stack_omits_is_checked_with_the_roles_default() -> None:
    raw = prod()
    for name in ("vllm_flags", "vllm_replicas"):
        del raw["vars"][name]
    raw["nodes"]["machines"] = {"prod-1": raw["nodes"]["machines"]["prod-1"]}
    del raw["gateway"]
    assert findings(raw).mistakes == []
    raw["nodes"]["defaults"]["gpus"] = 4
    assert {error.key for error in findings(raw).mistakes} == {"vars.vllm_replicas[1].gpus"}


def without_gpus(**variables: Any) -> dict[str, Any]:
    """Return the stack prod whose second machine has no GPUs, and variables of its own."""
    raw = prod()
    raw["nodes"]["machines"]["prod-2"] |= {"gpus": 0, "vars": variables}
    return raw


def test_a_machine_without_gpus_has_no_finding_about_replicas_that_it_never_has() -> None:
    report = findings(without_gpus(host_kernel_arguments=[]))
    assert (report.mistakes, report.warnings) == ([], [])
    stack = settings.read(without_gpus(), "file")
    assert "prod-2: no GPUs, serves nothing" in capacity.report(stack, ROLES).splitlines()


def test_a_machine_without_gpus_has_no_kernel_argument_for_them_unless_the_stack_sets_one() -> None:
    stack = settings.read(without_gpus(), "file")
    plan = validate.machine_plan(stack, ROLES, "prod-2").values
    assert (plan["host_kernel_arguments"], plan["host_kernel_arguments_intel"]) == ([], [])
    assert validate.machine_plan(stack, ROLES, "prod-1").values["host_kernel_arguments"] != []
    own = settings.read(without_gpus(host_kernel_arguments=["quiet"]), "file")
    assert validate.machine_plan(own, ROLES, "prod-2").values["host_kernel_arguments"] == ["quiet"]


def test_a_machine_without_gpus_has_no_variable_of_a_role_that_does_not_run_there() -> None:
    (mistake,) = findings(without_gpus(vllm_flags={"seed": 1})).mistakes
    assert str(mistake) == (
        "stacks/Pulumi.prod.yaml: nodes.machines.prod-2.vars.vllm_flags: the machine has no GPUs and serves nothing\n"
        "  wanted: variables of the roles host and gateway, which run there"
    )


@pytest.mark.parametrize(("nodes", "warnings"), [(["prod-1"], 1), (["prod-1", "prod-2"], 0)])
def test_a_gateway_that_is_alone_is_a_warning(nodes: list[str], warnings: int) -> None:
    report = findings(prod(gateway={"nodes": nodes, "name": "glm.example.com"}))
    assert report.mistakes == []
    assert [str(warning) for warning in report.warnings] == warnings * [
        "stacks/Pulumi.prod.yaml: gateway.nodes: prod-1 is the only gateway: without it no client reaches the fleet\n"
        "  wanted: two or more, each with an address of the name"
    ]


@pytest.mark.parametrize(
    ("expires", "stops", "reason"),
    [
        ("2026-11-26", False, "(waived until 2026-11-26: measured, ticket 4711)"),
        ("2026-11-25", True, "(its waiver expired on 2026-11-25 and does not count)"),
    ],
)
def test_a_waiver_counts_up_to_its_last_day(expires: str, stops: bool, reason: str) -> None:
    raw = prod(waivers={"context-of-model": {"reason": "measured, ticket 4711", "expires": expires}})
    raw["vars"]["vllm_flags"]["max-model-len"] = 200000
    report = findings(raw)
    assert (len(report.mistakes), len(report.warnings)) == ((1, 0) if stops else (0, 1))
    assert reason in str((report.mistakes + report.warnings)[0])


def test_a_value_of_another_type_is_reported_before_any_rule_reads_it() -> None:
    raw = prod()
    raw["vars"] |= {"vllm_pids_limit": "many", "vllm_entrypoint": ["bash"]}
    report = findings(raw)
    assert report.mistyped and [error.key for error in report.mistakes] == ["vars.vllm_pids_limit"]


def too_large() -> dict[str, Any]:
    """Return the stack prod with one GPU a replica, whose memory does not hold the weights."""
    raw = prod()
    raw["vars"]["vllm_flags"]["tensor-parallel-size"] = 1
    raw["vars"]["vllm_replicas"] = [{"name": "glm-0", "port": 8000, "gpus": [0]}]
    return raw


def test_a_finding_has_the_form_of_every_message() -> None:
    assert "\n".join(map(str, findings(too_large()).mistakes)) + "\n" == (GOLDEN / "a-finding.txt").read_text()


@pytest.mark.parametrize("stack", ["prod", "staging", "lab"])
def test_a_plan_draws_what_fits(stack: str) -> None:
    assert capacity.report(stack_file.read(stack, ROOT), ROLES) + "\n" == (GOLDEN / f"{stack}.txt").read_text()


def test_a_plan_that_does_not_fit_is_drawn_too() -> None:
    text = capacity.report(settings.read(too_large(), "file"), ROLES)
    assert text + "\n" == (GOLDEN / "does-not-fit.txt").read_text()


def test_fleet_plan_prints_the_plan_and_exits_with_zero() -> None:
    result = testing.CliRunner().invoke(main.main, ["plan", "-s", "prod"])
    assert (result.exit_code, result.output) == (0, (GOLDEN / "prod.txt").read_text())


def test_a_stack_without_a_file_is_reported_with_the_nearest_name() -> None:
    with pytest.raises(errors.SettingsError) as caught:
        stack_file.read("prdo", ROOT)
    assert "did you mean prod?" in str(caught.value)


@pytest.mark.parametrize("value", ["{{ x }}", 5, None, [], {}, "", [None], {"a": None}, [[1]]], ids=repr)
def test_any_value_of_a_variable_is_checked_without_a_traceback(value: object) -> None:
    """Each variable of each role in turn, beside what the stack prod says: it reports mistakes, and raises no error."""
    for name in ROLES.options:
        raw = prod()
        assert isinstance(findings({**raw, "vars": {**raw["vars"], name: value}}), validate.Findings)
