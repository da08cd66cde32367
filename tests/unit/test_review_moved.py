"""What `fleet apply` says when a report is of another world than the present one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.impact.effects import Effect
from fleet.impact.forecast_turns import Turns
from fleet.review import moved
from fleet.review.report import Report
from tests.support.review_reports import STOPPED, flag_on_twelve_nodes, names, step, urn

OLD = flag_on_twelve_nodes()


def with_basis(report: Report, kind: str, node: str, **parts: object) -> Report:
    basis = {**report.prediction.basis}
    basis[urn(kind, node)] = replace(basis[urn(kind, node)], **parts)  # type: ignore[arg-type]
    return replace(report, prediction=replace(report.prediction, basis=basis))


def with_effects(report: Report, effect: Effect, *nodes: str) -> Report:
    changes = [
        replace(change, effect=effect) if change.node in nodes else change for change in report.prediction.changes
    ]
    return replace(report, prediction=replace(report.prediction, changes=tuple(changes)))


def without(report: Report, node: str) -> Report:
    changes = tuple(change for change in report.prediction.changes if change.node != node)
    steps = tuple(step for step in report.operations if not step.urn.endswith(f"::{node}"))
    return replace(report, prediction=replace(report.prediction, changes=changes), operations=steps)


REBOOT = Effect("reboot", (), ("host_kernel_arguments a -> b",))
CASES: dict[str, tuple[Report, list[str]]] = {
    "the same": (OLD, []),
    "the times of earlier runs": (
        replace(
            OLD,
            prediction=replace(
                OLD.prediction, changes=tuple(replace(change, seconds=1.0) for change in OLD.prediction.changes)
            ),
        ),
        [],
    ),
    "another effect on all": (
        with_effects(OLD, REBOOT, *names(12)),
        [
            f"{', '.join(names(12))}: Serving: no longer: restarts glm-0, glm-1 on it: vllm_flags.max-model-len 65536 -> 32768 in its turn",
            f"{', '.join(names(12))}: Serving: now: reboots it: host_kernel_arguments a -> b in its turn",
        ],
    ),
    "one node less": (
        without(OLD, "prod-12"),
        [
            "prod-12: Serving: no longer: update",
            "prod-12: Serving: no longer: restarts glm-0, glm-1 on it: vllm_flags.max-model-len 65536 -> 32768 in its turn",
        ],
    ),
    "a deletion more": (
        replace(OLD, operations=(*OLD.operations, step("delete", "Node", "prod-13"))),
        ["prod-13: Node: now also: delete"],
    ),
    "a fact": (
        with_basis(OLD, "Node", "prod-2", facts={"facts.kernel": "6.9"}, state="e" * 16),
        ["prod-2: Node: facts.kernel 6.8 -> 6.9"],
    ),
    "drift": (
        with_basis(OLD, "Serving", "prod-2", drift=(STOPPED,)),
        ["prod-2: Serving: drifted since: unit glm-0.service (state inactive, wanted state active)"],
    ),
    "another run": (
        with_basis(OLD, "Serving", "prod-2", state="e" * 16),
        ["prod-2: Serving: its state moved: another run changed it"],
    ),
    "inputs that no effect shows": (
        with_basis(OLD, "Serving", "prod-2", inputs="e" * 16),
        ["prod-2: Serving: its inputs moved: the stack file, a role or another resource changed"],
    ),
    "the turns": (
        replace(OLD, prediction=replace(OLD.prediction, turns=Turns((*names(12),), at_once=6))),
        ["the turns moved: glm-fleet:change, or the nodes that serve"],
    ),
    "another stack": (replace(OLD, stack="dr"), ["it is about the stack dr, and was about prod"]),
    "the stack file": (
        replace(OLD, evidence=replace(OLD.evidence, stack_file="6" * 64)),
        ["the stack file is another one"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_moved_is_said(name: str) -> None:
    new, lines = CASES[name]
    assert moved.lines(OLD, new) == lines


@pytest.mark.parametrize("digest", [lambda report: report.effects_digest, lambda report: report.facts_digest])
def test_digests_differ_exactly_where_something_moved(digest: Callable[[Report], str]) -> None:
    """Both together: a change moves the one of effects or the one of facts."""
    for new, lines in CASES.values():
        both = (new.effects_digest, new.facts_digest) == (OLD.effects_digest, OLD.facts_digest)
        assert both is not bool(lines) or new.stack != OLD.stack
    assert digest(OLD)
