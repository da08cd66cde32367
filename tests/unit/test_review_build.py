"""What a report says that it did not check, what it counts as lost, and how it speaks about models on a cluster."""

import dataclasses

import pytest

from fleet.impact.effects import Effect
from fleet.impact.forecast import Change
from fleet.impact.forecast_turns import Turns
from fleet.review import build, events, outline, report
from fleet.review.record import Basis, Prediction
from fleet.review.report import Evidence, Operation, Report
from tests.support.review_reports import EVIDENCE, FLAG, flag_on_twelve_nodes, names, prediction, step

STACK = build.Stack("prod")
SURGE = "one at a time; capacity at worst 1 of 2"
PODS = Effect("restart", ("2 pods",), ("vllm_flags.max-num-seqs unset -> 8",), manner=SURGE)


def visible(made: Report) -> str:
    """Return the lines that a reviewer sees at once."""
    shown = outline.outline(made)
    return "\n".join([shown.title, *shown.lines]).replace("\0", "")


def unchecked(evidence: Evidence, policies: bool = True, **more: int) -> tuple[str, ...]:
    """Return what a report of a flag on twelve nodes did not check."""
    predicted = dataclasses.replace(flag_on_twelve_nodes().prediction, **more)
    preview = events.Preview(prediction=predicted, result="succeeded")
    return build.report(preview, STACK, evidence, policies).unchecked


def test_without_a_refresh_the_hosts_are_unchecked_and_why() -> None:
    (line,) = {*unchecked(dataclasses.replace(EVIDENCE, hosts=False))} - {*unchecked(EVIDENCE)}
    assert line == (
        "the hosts since the last refresh, for what reads them needs root there (--no-refresh): later drift is not in here"
    )


@pytest.mark.parametrize(
    ("evidence", "policies", "unrendered", "line"),
    [
        (EVIDENCE, False, 0, "the policies: the preview ran without them"),
        (dataclasses.replace(EVIDENCE, modified=True), True, 0, "the files: they differ from the commit"),
        (EVIDENCE, True, 3, "the files of 3 more resources, each with variables of its own"),
    ],
)
def test_what_was_left_out_is_said(evidence: Evidence, policies: bool, unrendered: int, line: str) -> None:
    assert line in unchecked(evidence, policies, unrendered=unrendered)
    assert line not in unchecked(EVIDENCE)


def cluster(*operations: Operation) -> Report:
    """Return a report about one model on a cluster, whose pods restart."""
    name = "urn:pulumi:prod::glm-fleet::fleet:index:Rollout::glm"
    predicted = Prediction((Change("glm", PODS, 90.0, "Rollout"),), {name: Basis("a" * 16, True, "b" * 16, {})})
    return Report("prod", predicted, operations, EVIDENCE)


def operation(op: str, kind: str, name: str) -> Operation:
    return Operation(f"urn:pulumi:prod::glm-fleet::{kind}::{name}", kind, op)


def test_of_a_model_the_pods_are_the_capacity() -> None:
    assert visible(cluster()).splitlines()[0] == (
        f"prod: needs a window: of 1 model 1 restart; glm: {SURGE}, about 90 s"
    )


def test_an_object_that_is_made_again_under_another_name_is_not_lost() -> None:
    made = cluster(
        operation("create", "kubernetes:core/v1:Secret", "glm/key-2"),
        operation("delete", "kubernetes:core/v1:Secret", "glm/key-1"),
    )
    assert made.verdict == report.WINDOW
    assert "also: create Secret glm/key-2; delete Secret glm/key-1" in visible(made)


@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolumeClaim"])
def test_an_object_that_holds_others_or_data_is_lost(kind: str) -> None:
    made = cluster(operation("delete", f"kubernetes:core/v1:{kind}", "glm"))
    assert made.verdict == report.DESTRUCTIVE
    assert f"deleted: {kind} glm" in visible(made)


def test_what_only_may_reboot_is_not_counted_as_rebooting() -> None:
    sure, unsure = (Effect("reboot", (), ("a 1 -> 2",), sure=each) for each in (True, False))
    for effect, words in ((sure, "2 reboot"), (unsure, "2 may reboot")):
        made = Report("prod", prediction(names(2), [Change(node, effect) for node in names(2)]), (), EVIDENCE)
        assert f"of 2 nodes {words}" in visible(made)


def test_an_upgrade_of_a_cluster_needs_a_window_and_names_its_turns() -> None:
    upgrade = Effect("upgrade", ("Kubernetes 1.36.3 to 1.37.2",), (), manner="pods move to other nodes")
    turns = Turns((*names(2),), planes=("prod-1",), podless=("prod-1",))
    changes = turns.mark([Change(node, upgrade, kind="Member") for node in names(2)])
    made = Report("prod", dataclasses.replace(prediction(names(2), changes), turns=turns), (), EVIDENCE)
    assert (made.verdict, Turns.from_json(turns.to_json())) == (report.WINDOW, turns)
    title = "prod: needs a window: of 2 nodes 2 upgrade; at the worst moment no node takes pods, not measured yet"
    assert visible(made).splitlines()[0] == title
    assert "in turns: prod-1, then prod-2" in visible(made)


def test_of_a_node_that_is_installed_again_nothing_else_is_among_the_first_lines() -> None:
    wiped = Effect("reinstall", (), ("wipes its disks",))
    changes = [Change("prod-1", wiped, kind="BareMetal"), Change("prod-1", FLAG, kind="Serving")]
    made = Report("prod", prediction(names(2), changes), (step("update", "Serving", "prod-1"),), EVIDENCE)
    assert "prod-1: reinstall, not measured yet: wipes its disks" in visible(made)
    assert "restart" not in visible(made).partition("\nin turns")[0]
    assert any("restart glm-0" in line for fold in outline.outline(made).folds for line in fold.lines)
