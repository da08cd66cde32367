"""A node with two replicas: a change that restarts replicas hits one after the other, and the node serves on.

As in test_change_in_turns.py, everything but the role and the probes is real.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.managed import rotation
from fleet.managed.standing import Standing
from fleet.provider.base import InitFailed
from fleet.provider.serving import Serving
from fleet.provider.slots import Slots
from fleet.provider.turns import Change
from tests.support.node_proxy import Node, StandIn
from tests.support.node_turn import BROKE, WRONG, Make, Run, fail, make_node
from tests.support.ssh_server import Server

OLD, NEW = "probes of {'max_model_len': 65536}", "probes of {'max_model_len': 300}"
CANCELLED = errors.Cancelled(node="glm-1", seen="cancelled")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return make_node(tmp_path, monkeypatch, "glm-0", "glm-1")


@pytest.fixture
def proxy(node: Node) -> Iterator[StandIn]:
    with StandIn(node) as proxy:
        yield proxy


@pytest.fixture
def make(server: Server, node: Node, proxy: StandIn, tmp_path: Path) -> Make:
    """Make a run after the census of its two nodes, without a hold unless the test says otherwise."""

    def run(one_key: bool = True, **change: Any) -> Run:
        run = Run(server, node, proxy, tmp_path, Change(**{"hold": 0, "drain": 5, **change}), one_key=one_key)
        run.census()
        return run

    return run


def at(run: Run, number: int, error: errors.FleetError) -> Callable[[], None]:
    """Return a role that fails in its run with this number."""
    runs: list[str] = []

    def role() -> None:
        runs.append("")
        if len(runs) == number:
            raise error

    return role


def restarts(node: Node) -> list[str]:
    """Return the units that going back has restarted, in order."""
    return [line.split()[-1] for line in node.systemctl if line.startswith("restart")]


def test_one_replica_is_changed_and_probed_while_the_other_serves(make: Make, node: Node, proxy: StandIn) -> None:
    run = make()
    outputs = run.serve()
    assert run.events == [
        "role restarts glm-0, without glm-0",
        f"{NEW}, without glm-0",
        "role restarts glm-1, without glm-1",
        f"{NEW}, without glm-1",
    ]
    assert [line for line in run.lines if "replicas" in line] == [
        "glm-0 serves the new state: 1 of 2 replicas",
        "glm-1 serves the new state: 2 of 2 replicas",
    ]
    assert (outputs["verdict"]["passed"], outputs["verdict"]["total"]) == (2, 2)
    assert "set server admission/node state maint" not in proxy.commands, "the node stays in rotation"
    assert (node.mark, run.turns.standing("glm-1"), run.turns.is_open("glm-1")) == (None, Standing.SERVES, False)


def test_a_first_replica_that_fails_goes_back_alone(make: Make, node: Node) -> None:
    run = make()
    run.role = fail(BROKE)
    with pytest.raises(errors.ConvergeFailed, match="glm-1 went back, and serves what it served before"):
        run.serve()
    assert run.events == ["role restarts glm-0, without glm-0", f"{OLD}, without glm-0"]
    assert (run.file.read_text(), restarts(node), node.mark) == ("the old one\n", ["glm-0.service"], None)
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_a_last_replica_that_fails_goes_back_before_those_that_serve(make: Make, node: Node) -> None:
    run = make()
    run.answers = [[], [WRONG]]
    with pytest.raises(errors.ProbeFailed, match="went back"):
        run.serve()
    assert run.events[4:] == [f"{OLD}, without glm-1", f"{OLD}, without glm-0"]
    assert restarts(node) == ["glm-1.service", "glm-0.service"]
    assert (run.file.read_text(), node.mark, run.turns.standing("glm-1")) == ("the old one\n", None, Standing.SERVES)


def test_a_canary_that_dies_in_its_hold_goes_back_with_the_dead_replica_first(
    make: Make, node: Node, proxy: StandIn
) -> None:
    run = make(hold=30)
    proxy.after_ready = lambda: node.put_unit("glm-1", "failed")
    with pytest.raises(errors.ProbeFailed, match="hold of the canary: glm-1 passed") as caught:
        run.serve()
    assert "went back" in str(caught.value)
    assert restarts(node) == ["glm-1.service", "glm-0.service"]


def test_a_replica_that_cannot_go_back_stays_drained_and_the_other_serves(make: Make, node: Node) -> None:
    run = make()
    run.role = fail(BROKE)
    (node.folder / "started").write_text("failed\n")
    with pytest.raises(InitFailed, match="could not go back"):
        run.serve()
    assert node.mark == {"node": "", "replicas": {"glm-0": "turn"}}
    assert run.others() == "glm-2: held back: glm-1 failed"


def test_what_a_replica_s_drain_cuts_is_reported_with_its_name(make: Make, proxy: StandIn) -> None:
    run = make(drain=0.2)
    proxy.load(2)
    run.serve()
    assert run.warnings == ["glm-0: 2 requests still ran after 0.2 s (`drain` of glm-fleet:change): they are cut"]


def test_the_run_after_a_killed_one_begins_with_the_replica_that_was_left_drained(make: Make, node: Node) -> None:
    killed = make()
    killed.role = at(killed, 2, CANCELLED)
    with pytest.raises(InitFailed, match="cancelled"):
        killed.serve()
    assert node.mark == {"node": "", "replicas": {"glm-1": "turn"}}
    run = make()
    assert run.turns.standing("glm-1") is Standing.UNFINISHED
    run.serve()
    assert [event for event in run.events if event.startswith("role")] == [
        "role restarts glm-1, without glm-1",
        "role restarts glm-0, without glm-0",
    ]
    assert node.mark is None


def test_a_run_after_a_killed_one_that_fails_goes_back_with_every_replica(make: Make, node: Node) -> None:
    killed = make()
    killed.role = at(killed, 2, CANCELLED)
    with pytest.raises(InitFailed):
        killed.serve()
    run = make()
    run.file.write_text("the new one\n")
    run.role = fail(BROKE)
    with pytest.raises(errors.ConvergeFailed, match="went back"):
        run.serve()
    assert (restarts(node), run.file.read_text()) == (["glm-1.service", "glm-0.service"], "the old one\n")


def test_a_replica_left_drained_is_given_back_when_its_node_needs_no_update(
    make: Make, node: Node, proxy: StandIn
) -> None:
    killed = make()
    killed.role = at(killed, 1, CANCELLED)
    with pytest.raises(InitFailed):
        killed.serve()
    run = make()
    run.in_turns.passed("glm-1", True, run.request("Serving"))
    assert (node.mark, proxy.replicas["glm-0"].status, run.turns.standing("glm-1")) == (None, "UP", Standing.SERVES)


def test_the_files_of_an_unfinished_change_restart_every_replica_also_of_a_drained_node(make: Make, node: Node) -> None:
    killed = make()
    killed.role = at(killed, 2, CANCELLED)
    with pytest.raises(InitFailed):
        killed.serve()
    run = make()
    run.host()
    run.serve()
    assert run.events == ["role, drained", "role restarts glm-0, glm-1, drained", *[f"{NEW}, drained"] * 2]


def drain_by_hand(server: Server, *, replica: str) -> None:
    with ssh.connect(server.target) as connection:
        rotation.drain(connection, rotation.OPERATOR, 1, lambda _: None, threading.Event(), replica)


@pytest.mark.parametrize(
    "why", ["another API key", "a replica is down", "the proxy does not know a replica", "drained"]
)
def test_where_a_replica_cannot_be_changed_alone_the_node_leaves_rotation(
    make: Make, node: Node, proxy: StandIn, server: Server, why: str
) -> None:
    match why:
        case "a replica is down":
            node.put_unit("glm-1", "failed")
        case "the proxy does not know a replica":
            del proxy.replicas["glm-1"]
        case "drained":
            drain_by_hand(server, replica="glm-1")
    run = make(one_key=why != "another API key")
    run.serve()
    assert run.events[0] == "role, drained"
    assert "set server admission/node state maint" in proxy.commands


RESTART = {"vllm_flags": {"max_model_len": 300}}


@pytest.mark.parametrize(
    ("claim", "new", "old", "replicas"),
    [
        ("flags", RESTART, {}, ["glm-0", "glm-1"]),
        ("a reason to probe alone", {}, {}, []),
        ("GPUs that move", {"vllm_replicas": [{"name": "glm-0", "gpus": [1]}, {"name": "glm-1", "gpus": [0]}]}, {}, []),
        ("another address", {"vllm_network": "host"}, {}, []),
        ("an effect that only the run knows", {"vllm_socket_group": "x"}, {}, []),
        ("one replica", RESTART, {"replicas": [{"name": "glm-0"}]}, []),
        ("drift besides", RESTART, {"drift": [{"kind": "unit"}]}, []),
        ("unknown variables", None, {}, []),
    ],
)
def test_a_change_goes_replica_by_replica_where_restarts_are_certain_and_all_that_happens(
    claim: str, new: Any, old: dict[str, Any], replicas: list[str]
) -> None:
    two = [{"name": "glm-0", "gpus": [0]}, {"name": "glm-1", "gpus": [1]}]
    listing = "1  tasks/main.yml"
    inputs = {"roles": {"vllm": listing}, "vars": {"vllm_replicas": two}, "node": {}, "api_key": "k", "probes": {}}
    state = {**inputs, "replicas": two, "drift": [], **old}
    after = {**inputs, "vars": "04da6b54-80e4-46f7-96ec-b56ff0331ba9" if new is None else {**inputs["vars"], **new}}
    if claim == "drift besides":
        state["drift"] = [
            {"kind": "unit", "name": "glm-0.service", "attribute": "state", "expected": "active", "seen": "x"}
        ]
    if claim == "a reason to probe alone":
        after["probes"] = {"digest": "1"}
    serving = Serving("Serving", ("replicas", "verdict"), Slots())
    assert [*serving.one_at_a_time(inputs, after, state)] == replicas
