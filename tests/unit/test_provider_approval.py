"""The provider changes only what an approved report has: resource by resource, by operation, state, inputs and effects."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.cli import review
from fleet.impact.effects import Effect
from fleet.impact.forecast import Change
from fleet.provider.approval import Approval
from fleet.provider.base import BaseResource, Resource
from fleet.provider.preview_record import basis_of
from fleet.provider.properties import UNKNOWN
from fleet.review import record
from fleet.review.record import Prediction
from fleet.review.report import Report
from tests.support.review_reports import EVIDENCE, FLAG, REBOOT, STOPPED, step, urn

URN = urn("Serving", "prod-1")
INPUTS = {"vars": {"a": 1}, "api_key": "secret"}
STATE = {**INPUTS, "vars": {"a": 0}, "took": {"restart": 90}, "log": "/a/log"}


class Serving(BaseResource):
    """A resource with these effects."""

    computed = ()

    def __init__(self, *planned: Effect) -> None:
        self._planned = [*planned]

    def effects(self, old_inputs: Mapping[str, Any], inputs: Mapping[str, Any], old: Mapping[str, Any]) -> list[Effect]:
        return self._planned


def resource(*planned: Effect) -> Resource:
    return Serving(*planned)  # type: ignore[return-value]


def approval(folder: Path, inputs: Mapping[str, Any] = INPUTS, **more: Any) -> Approval:
    """Return the approval of a report that restarts prod-1."""
    basis = {URN: basis_of(URN, resource(), dict(inputs), dict(STATE))}
    prediction = Prediction((Change("prod-1", FLAG, 90.0, "Serving"),), basis)
    report = replace(Report("prod", prediction, (step("update", "Serving", "prod-1"),), EVIDENCE), **more)
    (folder / "report.json").write_text(review.dumped(report))
    return Approval(True, {record.APPROVED: str(folder / "report.json")})


def update(approved: Approval, *planned: Effect, inputs: Any = INPUTS, state: Any = STATE) -> None:
    approved.check_update(URN, resource(*planned), {}, dict(inputs), dict(state))


def test_what_the_report_has_is_done(tmp_path: Path) -> None:
    update(approval(tmp_path), FLAG)
    update(approval(tmp_path), Effect("reload", ("x",), ()))


def test_times_logs_and_secrets_are_no_state(tmp_path: Path) -> None:
    update(approval(tmp_path), FLAG, state={**STATE, "took": {}, "log": "/b/log", "api_key": "another"})


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"state": {**STATE, "vars": {"a": 2}}}, "Serving: its state moved since the report"),
        ({"state": {**STATE, "drift": [STOPPED.to_json()]}}, "Serving: its state moved since the report"),
        ({"inputs": {**INPUTS, "vars": {"a": 2}}}, "Serving: its inputs are others"),
    ],
    ids=["state", "drift", "inputs"],
)
def test_what_moved_is_refused(tmp_path: Path, change: dict[str, Any], seen: str) -> None:
    with pytest.raises(errors.NotApproved, match=seen):
        update(approval(tmp_path), FLAG, **change)


def test_inputs_that_the_preview_did_not_know_may_be_any(tmp_path: Path) -> None:
    update(approval(tmp_path, {**INPUTS, "vars": {"a": UNKNOWN}}), FLAG)


def test_a_create_with_other_inputs_is_refused(tmp_path: Path) -> None:
    created = approval(tmp_path, operations=(step("create", "Serving", "prod-1"),))
    created.check_create(URN, resource(), dict(INPUTS))
    with pytest.raises(errors.NotApproved, match="its inputs are others"):
        created.check_create(URN, resource(), {"vars": {"a": 2}})


def test_a_stronger_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotApproved, match="Serving: reboot\n  wanted: at most restart, as in the report"):
        update(approval(tmp_path), REBOOT)


@pytest.mark.parametrize("ops", [("create", "replace"), ("delete", "replace")])
def test_another_operation_is_refused(tmp_path: Path, ops: tuple[str, ...]) -> None:
    with pytest.raises(errors.NotApproved, match=f"{ops[0]} or replace, and the report has update"):
        approval(tmp_path).check(URN, ops)


def test_a_resource_that_the_report_does_not_change_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotApproved, match="update, and the report has no change"):
        approval(tmp_path, operations=()).check(URN, ("update",))


def test_a_stack_with_signers_changes_nothing_without_a_report_and_any_other_stack_does() -> None:
    with pytest.raises(errors.NotApproved, match="no report was approved"):
        update(Approval(True, {}), FLAG)
    update(Approval(False, {}), FLAG)
