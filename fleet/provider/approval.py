"""Refuses, resource by resource, what an approved report of `fleet apply` does not have, or what it saw otherwise.

`fleet apply` compares the whole before it starts; this holds the update to it, whatever moved since. Needs the report's copy that the environment
names. Called by the servicer before it changes anything.
"""

import functools
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from fleet import errors
from fleet.impact.forecast import ORDER
from fleet.provider.base import Resource, kind_of, name_of
from fleet.provider.preview_record import basis_of
from fleet.provider.properties import Props
from fleet.review import record, report

NEXT = "`fleet review` makes a report of what is now; sign that, then `fleet apply`"


class Approval:
    """The approved report of one update, if there is one; `required` is whether the stack changes only by one."""

    def __init__(self, required: bool = False, environment: Mapping[str, str] = os.environ) -> None:
        self._required, self._file = required, environment.get(record.APPROVED, "")

    @functools.cached_property
    def _report(self) -> report.Report:
        return report.read(Path(self._file).read_text(), "the approved report")

    def check(self, urn: str, ops: Collection[str]) -> None:
        """Raise NotApproved if the report has none of these operations for the resource."""
        kind, wish = kind_of(urn), " or ".join(ops)
        if not self._file:
            if self._required:
                raise _refusal(
                    urn, f"{kind}: {wish}, and no report was approved", "`fleet apply` with an approved report"
                )
            return
        steps = {step.urn: step.op for step in self._report.operations}
        if steps.get(urn) not in ops:
            has = steps.get(urn, "no change")
            raise _refusal(urn, f"{kind}: {wish}, and the report has {has}", "only operations that the report has")

    def check_create(self, urn: str, resource: Resource, inputs: Props) -> None:
        """Raise NotApproved also if the report saw other inputs."""
        self.check(urn, ("create", "replace"))
        if self._file:
            self._check_inputs(urn, basis_of(urn, resource, inputs, {}))

    def check_update(self, urn: str, resource: Resource, old_inputs: Props, inputs: Props, olds: Props) -> None:
        """Raise NotApproved also if the report saw another state or other inputs, or has only weaker effects."""
        self.check(urn, ("update",))
        if not self._file:
            return
        kind, node = kind_of(urn), name_of(urn)
        approved, now = self._report.prediction.basis.get(urn), basis_of(urn, resource, inputs, olds)
        if approved is None or (approved.state, _words(approved)) != (now.state, _words(now)):
            raise _refusal(urn, f"{kind}: its state moved since the report", "the state that the report saw")
        self._check_inputs(urn, now)
        levels = [
            change.effect.level
            for change in self._report.prediction.changes
            if (change.node, change.kind) == (node, kind)
        ]
        most = min(levels, key=ORDER.index, default=ORDER[-1])
        for effect in resource.effects(old_inputs, inputs, olds):
            if ORDER.index(effect.level) < ORDER.index(most):
                raise _refusal(urn, f"{kind}: {effect.level}", f"at most {most}, as in the report")

    def _check_inputs(self, urn: str, now: record.Basis) -> None:
        """Raise NotApproved for other inputs than those that the preview knew."""
        approved = self._report.prediction.basis.get(urn)
        if approved is None or (approved.whole and approved.inputs != now.inputs):
            raise _refusal(urn, f"{kind_of(urn)}: its inputs are others", "the inputs that the report saw")


def _words(basis: record.Basis) -> list[str]:
    return sorted(map(str, basis.drift))


def _refusal(urn: str, seen: str, wanted: str) -> errors.NotApproved:
    return errors.NotApproved(node=name_of(urn), doing="apply what was approved", seen=seen, wanted=wanted, next=NEXT)
