"""A node's turn: what is done on it, in which order, and how it ends well or badly.

The SSH server, the scripts on the node, HAProxy's admin socket (a stand-in) and the order of turns are real here; the role and the probes
are functions of the test. tests/e2e has it on lab nodes.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.managed import rotation
from fleet.managed.standing import Standing
from fleet.provider.base import InitFailed
from fleet.provider.change_in_turns import ChangeInTurns
from fleet.provider.turns import Change
from tests.support.node_proxy import Node, StandIn
from tests.support.node_turn import BROKE, WRONG, Make, Run, fail, make_node
from tests.support.ssh_server import Server

OLD, NEW = "key of {'max_model_len': 65536}", "key of {'max_model_len': 300}"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return make_node(tmp_path, monkeypatch, "glm-0")


@pytest.fixture
def make(server: Server, node: Node, tmp_path: Path) -> Iterator[Make]:
    """Make a run: with a node proxy, and without a hold, unless the test says otherwise."""
    with StandIn(node) as proxy:

        def run(**change: Any) -> Run:
            return Run(server, node, proxy, tmp_path, Change(**{"hold": 0, "drain": 5, **change}))

        yield run


def test_a_change_runs_and_is_probed_while_the_node_is_out_of_rotation(make: Make, tmp_path: Path) -> None:
    run = make()
    run.census()
    outputs = run.serve()
    assert outputs["vars"]["vllm_flags"] == {"max_model_len": 300}
    assert run.events == ["role, drained", f"probes with the {NEW}, drained"]
    assert run.proxy and run.proxy.admission == "no check"
    assert (run.node.mark, run.turns.standing("glm-1"), run.turns.is_open("glm-1")) == (None, Standing.SERVES, False)
    assert not (tmp_path / "last").exists()


def test_a_change_that_interrupts_nothing_needs_no_turn(make: Make) -> None:
    run = make()
    run.census()
    run.old_inputs["probes"] = run.old["probes"] = {"cases": ["bottle-grounding"], "min_iou": 0.5}
    run.serve(max_model_len=65536)
    assert run.events == ["role, in rotation", f"probes with the {OLD}, in rotation"]
    assert not [line for line in (run.proxy.commands if run.proxy else []) if line.startswith("set")]


def test_without_the_setting_nobody_is_asked_and_nobody_waits(make: Make) -> None:
    run = make()
    run.in_turns = ChangeInTurns()
    before = len(run.server.commands)
    run.in_turns.census(["glm-1"], {"glm-1": run.connection}, run.request("Serving"))
    run.serve()
    run.in_turns.passed("glm-1", False, run.request("Serving"))
    assert len(run.server.commands) == before


def test_a_failed_role_goes_back_and_the_state_stays_as_it_was(make: Make, tmp_path: Path) -> None:
    run = make()
    run.census()
    run.role = fail(BROKE)
    with pytest.raises(errors.ConvergeFailed) as caught:
        run.serve()
    assert str(caught.value) == (
        "glm-1: vllm: Check that every replica is healthy: glm-0 did not\n"
        "    glm-1 went back, and serves what it served before\n"
        "  next:   correct it\n"
        "          the state keeps the old inputs: `pulumi preview` shows the same change again"
    )
    assert run.events == ["role, drained", f"probes with the {OLD}, drained"]
    assert (run.file.read_text(), run.file.stat().st_mode & 0o777) == ("the old one\n", 0o640)
    assert not (tmp_path / "more.yaml").exists()
    assert run.node.systemctl == [
        "daemon-reload ",
        "enable glm-0.service",
        "reset-failed glm-0.service",
        "restart --no-block glm-0.service",
    ]
    assert run.proxy and run.proxy.admission == "no check"
    assert not (tmp_path / "last").exists()
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_a_failed_probe_goes_back_and_names_the_answer(make: Make) -> None:
    run = make()
    run.census()
    run.answers = [[WRONG]]
    with pytest.raises(errors.ProbeFailed) as caught:
        run.serve()
    assert str(caught.value).splitlines()[1:3] == [
        "    glm-0: bottle-grounding: answered '400: no' (no box)",
        "    glm-1 went back, and serves what it served before",
    ]
    assert run.events == ["role, drained", f"probes with the {NEW}, drained", f"probes with the {OLD}, drained"]
    assert run.file.read_text() == "the old one\n"


@pytest.mark.parametrize("how", ["its replica does not start", "its answers are wrong"])
def test_a_node_that_cannot_go_back_stays_out_of_rotation_and_keeps_its_new_state(
    make: Make, node: Node, how: str
) -> None:
    run = make()
    run.census()
    run.role = fail(BROKE)
    if how == "its replica does not start":
        (node.folder / "started").write_text("failed\n")
    else:
        run.answers = [[WRONG]]
    with pytest.raises(InitFailed) as caught:
        run.serve()
    words = {
        "its replica does not start": "go back to what served before: glm-0.service did not become healthy",
        "its answers are wrong": "probe what served before: glm-0: bottle-grounding: answered '400: no' (no box)",
    }[how]
    assert str(caught.value.error).splitlines()[:2] == [
        "glm-1: vllm: Check that every replica is healthy: glm-0 did not",
        f"    and it could not go back: {words}; it stays out of rotation",
    ]
    assert caught.value.properties["vars"]["vllm_flags"] == {"max_model_len": 300}
    assert (run.node.mark, run.turns.standing("glm-1")) == ({"node": "turn", "replicas": {}}, Standing.BROKEN)
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_a_canary_holds_under_clients_requests(make: Make) -> None:
    run = make(hold=0.3, requests=2)
    run.census()
    assert run.proxy
    run.proxy.counts = True
    run.serve()
    assert run.lines[-1].startswith("canary: held 0.3 s, ")
    assert run.turns.canary == "glm-1"


def test_a_canary_that_dies_in_its_hold_is_drained_again_and_goes_back(make: Make, node: Node) -> None:
    run = make(hold=30)
    run.census()
    assert run.proxy
    run.proxy.after_ready = lambda: node.put_unit("glm-0", "failed")
    with pytest.raises(errors.ProbeFailed) as caught:
        run.serve()
    assert str(caught.value).splitlines()[:3] == [
        "glm-1: hold of the canary: glm-0 passed the probes and became unhealthy under clients' requests",
        "    glm-1 went back, and serves what it served before",
        "  wanted: healthy replicas for 30 s (`hold` of glm-fleet:change)",
    ]
    assert [line for line in run.proxy.commands if line.startswith("set server")] == [
        f"set server admission/node state {word}" for word in ("maint", "ready", "maint", "ready")
    ]
    assert [key.split()[-1] for key in run.proxy.keys] == ["300}", "65536}"], "the proxy goes back to the old key"
    assert run.events[-1] == f"probes with the {OLD}, drained"
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_a_hold_with_too_few_requests_is_inconclusive_serves_on_and_pauses_the_others(make: Make) -> None:
    run = make(hold=0.2, requests=10)
    run.census()
    outputs = run.serve()
    assert outputs["verdict"]["passed"] == 1, "the state has the change"
    words = "is inconclusive: it got 0 requests in its hold of 0.2 s, wanted 10 (`requests` of glm-fleet:change)"
    assert run.warnings == [f"glm-1 {words}"]
    assert run.turns.standing("glm-1") is Standing.SERVES
    assert run.others() == f"glm-2: held back: glm-1 {words}"


def test_only_the_canary_holds(make: Make) -> None:
    run = make(hold=30)
    run.census()
    run.turns.take_census(["glm-2", "glm-1"], dict.fromkeys(["glm-1", "glm-2"], Standing.SERVES))
    run.turns.resolved("glm-2", True)
    run.serve()
    assert not [line for line in run.lines if "canary" in line]


def test_a_cancel_leaves_the_node_drained_for_the_next_run(make: Make) -> None:
    run = make()
    run.census()
    run.role = fail(errors.Cancelled(node="glm-1", seen="cancelled"))
    with pytest.raises(InitFailed, match="cancelled"):
        run.serve()
    assert run.node.mark == {"node": "turn", "replicas": {}}
    assert run.file.read_text() == "the new one\n", "a cancel restores nothing"


def test_the_next_run_ends_the_work_of_a_killed_one_and_can_still_go_back(make: Make) -> None:
    killed = make()
    killed.census()
    killed.role = fail(errors.Cancelled(node="glm-1", seen="cancelled"))
    with pytest.raises(InitFailed):
        killed.serve()
    run = make()
    run.census()
    run.file.write_text("the new one\n")
    assert run.turns.standing("glm-1") is Standing.UNFINISHED
    run.role = fail(BROKE)
    with pytest.raises(errors.ConvergeFailed, match="went back"):
        run.serve()
    assert run.file.read_text() == "the old one\n", "what the killed run has kept"
    assert run.node.mark is None


def test_a_node_that_did_not_serve_has_nothing_to_go_back_to(make: Make, node: Node, tmp_path: Path) -> None:
    node.put_unit("glm-0", "failed")
    run = make()
    run.census()
    assert run.turns.standing("glm-1") is Standing.BROKEN
    run.role = fail(BROKE)
    with pytest.raises(InitFailed, match="glm-0 did not") as caught:
        run.serve()
    assert "back" not in str(caught.value.error)
    assert run.file.read_text() == "the new one\n"
    assert not (tmp_path / "last").exists()
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_an_unfinished_node_without_a_change_is_given_back_when_it_is_resolved(make: Make) -> None:
    killed = make()
    killed.census()
    killed.host()
    run = make()
    run.census()
    run.in_turns.passed("glm-1", True, run.request("Serving"))
    assert (run.node.mark, run.turns.standing("glm-1")) == (None, Standing.SERVES)


def test_a_lost_connection_is_inconclusive_and_restores_nothing(make: Make) -> None:
    run = make()
    run.census()
    run.role = fail(errors.Unreachable(node="glm-1", doing="run", seen="the connection broke"))
    with pytest.raises(InitFailed, match="the connection broke"):
        run.serve()
    assert run.file.read_text() == "the new one\n"
    assert run.others() == "glm-2: held back: glm-1 is inconclusive: the connection broke"


def test_a_node_keeps_its_turn_from_host_to_serving(make: Make) -> None:
    run = make()
    run.census()
    run.host()
    assert (run.turns.is_open("glm-1"), run.events) == (True, ["role, drained"])
    run.serve()
    assert run.events[1:] == ["role, drained", f"probes with the {NEW}, drained"]
    assert not run.turns.is_open("glm-1")


def test_a_turn_of_host_alone_ends_when_the_program_has_resolved_serving(make: Make, node: Node) -> None:
    run = make()
    run.census()
    run.host()
    node.put_unit("glm-0", "activating")
    threading.Timer(0.3, node.put_unit, ("glm-0", "active")).start()
    run.in_turns.passed("glm-1", True, run.request("Serving"))
    assert run.proxy and run.proxy.admission == "no check"
    assert not run.turns.is_open("glm-1")


def test_a_turn_of_host_alone_fails_if_the_replicas_do_not_come_back(make: Make, node: Node) -> None:
    run = make()
    run.census()
    run.host()
    node.put_unit("glm-0", "failed")
    with pytest.raises(errors.ProbeFailed, match="its replicas are not healthy"):
        run.in_turns.passed("glm-1", True, run.request("Serving"))
    assert run.node.mark == {"node": "turn", "replicas": {}}
    assert run.others() == "glm-2: held back: glm-1 failed"


@pytest.mark.parametrize(("unit", "serves"), [("active", True), ("failed", False)])
def test_a_failed_host_serves_on_where_its_replicas_are_healthy(
    make: Make, node: Node, unit: str, serves: bool
) -> None:
    run = make()
    run.census()

    def role() -> None:
        node.put_unit("glm-0", unit)
        raise BROKE

    run.role = role
    with pytest.raises(InitFailed, match="did not"):
        run.host()
    assert (run.node.mark is None) is serves
    assert run.lines + run.warnings == [
        "its replicas are as before, and healthy: it is back in rotation"
        if serves
        else "glm-1 stays out of rotation: its replicas are not healthy"
    ]
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_a_node_that_does_not_reach_serving_serves_on_and_holds_the_others_back(make: Make) -> None:
    run = make()
    run.census()
    run.host()
    run.in_turns.passed("glm-1", False, run.request("Serving"))
    assert run.node.mark is None
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_what_the_drain_cuts_is_reported(make: Make) -> None:
    run = make(drain=0.2)
    run.census()
    assert run.proxy
    run.proxy.load(3)
    run.proxy.gateways, run.proxy.asking = {"glm-9": 60_000}, False
    run.serve()
    assert run.warnings == [
        "glm-9 did not ask whether glm-1 is ready, and may still send to it",
        "3 requests still ran after 0.2 s (`drain` of glm-fleet:change): they are cut",
    ]


def test_a_node_that_an_operator_drained_is_changed_and_stays_out(make: Make) -> None:
    run = make()
    with rotation.ssh.connect(run.server.target) as connection:
        rotation.drain(connection, "operator", 1, lambda text: None, threading.Event())
    run.census()
    run.serve()
    assert run.lines[-1] == "stays out of rotation: an operator drained it"
    assert run.node.mark == {"node": "operator", "replicas": {}}
    assert run.turns.standing("glm-1") is Standing.DRAINED


def test_a_node_without_a_proxy_goes_in_turns_and_goes_back_undrained(
    server: Server, node: Node, tmp_path: Path
) -> None:
    run = Run(server, node, None, tmp_path, Change(hold=0))
    run.census()
    run.answers = [[WRONG]]
    with pytest.raises(errors.ProbeFailed, match="went back"):
        run.serve()
    assert run.file.read_text() == "the old one\n"
    assert run.node.mark is None


def test_a_dead_node_fails_by_itself_and_holds_nobody_back(make: Make) -> None:
    run = make(at_once=2)
    run.connection["port"] = 1
    run.census(glm_1=Standing.DEAD)
    with pytest.raises(errors.Unreachable, match="connection refused"):
        run.host()
    assert run.turns.enter("glm-2", lambda text: None, run.cancelled)


def test_a_serving_that_the_program_no_longer_has_is_drained_before_its_delete(make: Make) -> None:
    run = make()
    run.in_turns.delete(run.request("Serving"), run.old)
    assert run.node.mark is None, "a destroy has no program and no census"
    run.census()
    run.in_turns.delete(run.request("Serving"), run.old)
    assert run.node.mark == {"node": "turn", "replicas": {}}
