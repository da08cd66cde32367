"""What `fleet review` keeps of the Pulumi engine's events, and what it leaves out."""

import json
from typing import Any

import pytest

from fleet import errors
from fleet.review import build, events, record, report
from tests.support.review_reports import EVIDENCE, flag_on_twelve_nodes, names, urn

SECRET = "hunter2-hunter2"


def line(number: int, **event: Any) -> str:
    return json.dumps({"sequence": number, "timestamp": 1, **event}, separators=(",", ":"))


def step(op: str, kind: str, node: str, **more: Any) -> dict[str, Any]:
    side = {"inputs": {"api_key": SECRET}, "outputs": {"vars": {"x": SECRET}}}
    metadata = {"op": op, "urn": urn(kind, node), "type": f"fleet:index:{kind}", "old": side, "new": side, **more}
    return {"resourcePreEvent": {"metadata": metadata}}


def diagnostic(message: str, severity: str, about: str = "") -> dict[str, Any]:
    return {"diagnosticEvent": {"message": message, "severity": severity, **({"urn": about} if about else {})}}


def recorded() -> dict[str, Any]:
    text = json.dumps(flag_on_twelve_nodes().prediction.to_json())
    return diagnostic(f"{record.RECORD}{text}\n", "debug", "urn:stack")


def summary(result: str = "succeeded") -> dict[str, Any]:
    return {"summaryEvent": {"result": result, "resourceChanges": {"same": 49, "update": 12}}}


def read(*happened: dict[str, Any]) -> events.Preview:
    return events.read(line(number, **event) for number, event in enumerate(happened))


def made(preview: events.Preview) -> report.Report:
    return build.report(preview, build.Stack("prod"), EVIDENCE, policies=True)


def test_of_a_step_only_op_urn_and_type_stay_and_no_value() -> None:
    preview = read(step("update", "Serving", "prod-1"), recorded(), summary())
    assert [*preview.operations.values()] == [
        report.Operation(urn("Serving", "prod-1"), "fleet:index:Serving", "update")
    ]
    assert SECRET not in json.dumps(made(preview).to_json())


def test_a_replacement_is_one_operation_with_the_property_that_causes_it() -> None:
    detailed = {"node.name": {"diffKind": "update-replace"}, "vars.x": {"diffKind": "update"}}
    happened = [
        step("delete-replaced", "Host", "prod-1"),
        step("replace", "Host", "prod-1", detailedDiff=detailed),
        step("create-replacement", "Host", "prod-1"),
    ]
    assert [(step.op, step.causes) for step in read(*happened).operations.values()] == [("replace", ("node.name",))]


def test_nothing_to_do_is_no_step_and_no_effect_whatever_is_read() -> None:
    nothing = record.Prediction((), {})
    said = diagnostic(record.RECORD + json.dumps(nothing.to_json()), "debug", "urn:stack")
    unchanged = [step(op, "Node", "prod-1") for op in report.UNCHANGED]
    assert made(read(*unchanged, said, summary())).verdict == report.NOTHING


def test_a_step_that_this_release_does_not_know_counts_as_a_change() -> None:
    assert made(read(step("eat", "Node", "prod-1"), recorded(), summary())).operations[0].op == "eat"


def test_a_mandatory_policy_refuses_and_names_what_it_is_about_once() -> None:
    violation = {
        "policyName": "no-ptrace",
        "message": "The serving container is not traced.\nvllm_ptrace is true\nremedy: leave it out\n",
        "enforcementLevel": "mandatory",
    }
    violations = [{"policyEvent": {**violation, "resourceUrn": urn("Serving", node)}} for node in names(2)]
    refused = made(read(*violations, recorded(), summary("failed")))
    assert refused.verdict == report.REFUSED
    assert refused.remarks == (
        report.Remark("no-ptrace", "vllm_ptrace is true\nremedy: leave it out", True, ("prod-1", "prod-2")),
    )


@pytest.mark.parametrize(
    "happened", [[summary("failed")], [recorded()], [summary()], []], ids=["failed", "no end", "no record", "empty"]
)
def test_a_preview_that_did_not_end_well_is_no_safe_change(happened: list[dict[str, Any]]) -> None:
    refused = made(read(*happened))
    assert refused.verdict == report.REFUSED and refused.failures == (build.INCOMPLETE,)


def test_an_error_beside_a_resource_is_a_reason_and_one_without_may_quote_anything() -> None:
    happened = [
        diagnostic("prod-2: connect: no answer", "error", urn("Host", "prod-2")),
        diagnostic(f"Traceback: {SECRET}", "error"),
    ]
    assert made(read(*happened, summary("failed"))).failures == ("prod-2: connect: no answer",)


def test_what_is_skipped_by_its_first_characters_says_nothing_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = [*(step(op, "Node", "prod-1") for op in report.KNOWN), recorded(), summary()]
    happened.append({"resOutputsEvent": {"metadata": {"op": "update"}}})
    short = read(*happened)
    monkeypatch.setattr(events, "SKIPPED", events.re.compile("(?!)"))
    assert read(*happened) == short


def test_a_line_that_is_no_event_is_named() -> None:
    with pytest.raises(errors.OutputMalformed, match="wanted: one event of JSON a line"):
        events.read(["<html>"])


def test_a_record_of_another_form_is_named() -> None:
    with pytest.raises(errors.OutputMalformed, match="changes: it is missing"):
        read(diagnostic(record.RECORD + "{}", "debug", "urn:stack"))
