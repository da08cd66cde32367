"""The turns of the members of a cluster: drain, change, give back, how a turn ends that fails, and who is held back.

The cluster and the change stand in; the turns are real. The same requests to a real API server: tests/kubernetes/test_member_pods.py.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from fleet import errors, ssh
from fleet.impact.effects import Effect
from fleet.managed import member_pods
from fleet.managed.member_pods import Evicted
from fleet.managed.member_pods import Member as State
from fleet.provider import member_turns
from fleet.provider.base import InitFailed, Request, Resource
from fleet.provider.change_in_turns import ChangeInTurns
from fleet.provider.member import Member
from fleet.provider.member_turns import MemberTurns
from fleet.provider.turns import Change, Turns

ORDER = ("cp-1", "gpu-1", "gpu-2")
NOBODY = Evicted((), {}, (), frozenset())
HELD = Evicted((), {"glm/glm-0": "it would violate the pod's disruption budget"}, (), frozenset())
UPGRADED = {"version": "1.37.2"}


def target(name: str) -> ssh.Target:
    return ssh.Target.from_inputs({"name": name, "address": "192.0.2.1", "port": 22, "host_key": "ssh-ed25519 A"})


@dataclass
class Cluster:
    """Stands in for a cluster: `evictions` are the answers to each try, `pods` how often a pod is not ready yet, `events` what happened."""

    members: dict[str, State]
    evictions: list[Evicted] = field(default_factory=lambda: [NOBODY])
    pods: int = 0
    upgrading: bool = False
    silent: tuple[str, ...] = ()
    events: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def connect(self, machine: ssh.Target, wait: float = 0) -> Iterator[Any]:
        if machine.name in self.silent:
            raise errors.Unreachable(node=machine.name, doing="connect", seen="no answer")
        yield machine.name

    def look(self, connection: Any) -> dict[str, State]:
        return self.members

    def set(self, name: str, **fields: bool) -> None:
        self.members[name] = State(**{**vars(self.members[name]), **fields})

    def cordon(self, connection: Any, name: str) -> bool:
        if not self.members[name].cordoned:
            self.events.append(f"cordon {name}")
            self.set(name, cordoned=True, in_turn=True)
        return self.members[name].in_turn

    def evict(self, connection: Any, name: str) -> Evicted:
        self.events.append(f"evict {name}")
        return self.evictions.pop(0) if len(self.evictions) > 1 else self.evictions[0]

    def uncordon(self, connection: Any, name: str) -> bool:
        ours = self.members[name].in_turn
        if ours:
            self.events.append(f"uncordon {name}")
            self.set(name, cordoned=False, in_turn=False)
        return ours

    def waiting(self, connection: Any, name: str, owners: Any) -> list[str]:
        self.pods -= 1
        return ["glm/glm-1"] if self.pods >= 0 else []


class Reboot:
    """Stands in for Host: records the change, or fails with `error`; the member is `ready` afterwards, or as before."""

    def __init__(self, cluster: Cluster, error: errors.FleetError | None = None, ready: bool | None = None) -> None:
        self.cluster, self.error, self.ready = cluster, error, ready

    def apply(self, request: Request, inputs: Any, old: Any) -> Any:
        self.cluster.events.append(f"change {request.name}")
        if self.ready is not None:
            self.cluster.set(request.name, ready=self.ready)
        if self.error:
            raise InitFailed({}, self.error)
        return UPGRADED


class Upgrade(Reboot, Member):
    """Stands in for Member, with its own judgement of the versions."""


@dataclass
class Run:
    """One run: its turns, what each member's request reported, and its cancel."""

    cluster: Cluster
    turns: Turns
    members: MemberTurns
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def request(self, name: str) -> Request:
        urn = f"urn:pulumi:prod::glm-fleet::fleet:index:Member::{name}"
        return Request(urn, lambda text, _: self.lines.append(text), self.cancelled, self.warnings.append)

    def census(self, planes: Sequence[str] = ORDER[:1]) -> None:
        self.members.census(ORDER, {name: target(name) for name in planes}, self.request("cp-1"))
        self.turns.resolved("cp-1", True)

    def change(
        self,
        name: str,
        error: errors.FleetError | None = None,
        cancel: bool = False,
        kind: type[Reboot] = Upgrade,
        **more: Any,
    ) -> Any:
        request = self.request(name)
        self.turns.enter(name, self.lines.append, self.cancelled)
        if cancel:
            self.cancelled.set()
        resource = cast(Resource, kind(self.cluster, error, **more))
        variables = {"kubernetes_part": "worker", "kubernetes_name": name, "kubernetes_version": "1.37.2"}
        inputs = {"node": {"name": name, "address": "192.0.2.2"}, "vars": variables}
        return self.members.change(resource, request, inputs, {})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    cluster = Cluster(
        {name: State("v1.37.2" if name == "cp-1" else "v1.36.3", True, False, False, name == "cp-1") for name in ORDER}
    )
    monkeypatch.setattr(member_turns, "INTERVAL", 0.01)
    monkeypatch.setattr(ssh, "connect", cluster.connect)
    for name in ("look", "cordon", "evict", "uncordon", "waiting"):
        monkeypatch.setattr(member_pods, name, getattr(cluster, name))
    monkeypatch.setattr(member_pods, "is_plane", lambda _: True)
    monkeypatch.setattr(member_pods, "is_upgrading", lambda _: cluster.upgrading)
    turns = Turns(Change(drain=0.05), quiet=0.3)
    return Run(cluster, turns, MemberTurns(turns))


def failed() -> errors.ConvergeFailed:
    return errors.ConvergeFailed(node="gpu-1", doing="upgrade", seen="kubeadm ended with 1")


def test_a_member_is_drained_changed_and_given_back(run: Run) -> None:
    run.census()
    assert run.change("gpu-1") == UPGRADED
    assert run.cluster.events == ["cordon gpu-1", "evict gpu-1", "change gpu-1", "uncordon gpu-1"]


def test_a_turn_ends_when_the_pods_that_were_there_are_ready(run: Run) -> None:
    run.cluster.pods = 2
    run.census()
    run.change("gpu-1")
    assert run.lines.count("waits for glm/glm-1") == 1 and run.cluster.pods < 0


def test_a_member_that_somebody_has_cordoned_stays_so(run: Run) -> None:
    run.cluster.set("gpu-1", cordoned=True)
    run.census()
    run.change("gpu-1")
    assert run.cluster.members["gpu-1"].cordoned and "stays cordoned: by somebody else" in run.lines


def test_a_pod_that_its_budget_holds_back_stops_the_turn_and_the_others_in_time(run: Run) -> None:
    run.cluster.evictions = [HELD]
    run.census()
    with pytest.raises(errors.NotReady) as caught:
        run.change("gpu-1")
    assert caught.value.seen == "after 0.05 s glm/glm-0: it would violate the pod's disruption budget"
    assert "change gpu-1" not in run.cluster.events and not run.cluster.members["gpu-1"].cordoned
    with pytest.raises(errors.FleetError, match="gpu-1 failed"):
        run.change("gpu-2")


def test_a_pod_that_nobody_would_make_again_is_not_evicted(run: Run) -> None:
    run.cluster.evictions = [Evicted(("default/tool",), {}, ("default/tool",), frozenset())]
    run.census()
    with pytest.raises(errors.NotReady) as caught:
        run.change("gpu-1")
    assert caught.value.seen == "default/tool: no controller would make it again elsewhere"
    assert caught.value.next == "`kubectl delete pod -n default tool` if nobody needs it; then `pulumi up`"
    assert run.cluster.events == ["cordon gpu-1", "evict gpu-1", "uncordon gpu-1"]


def test_a_member_between_two_versions_stays_cordoned_and_the_next_run_goes_on_with_it(run: Run) -> None:
    run.census()
    run.cluster.upgrading = True
    with pytest.raises(InitFailed):
        run.change("gpu-1", failed())
    assert run.warnings == ["gpu-1 stays cordoned: it is between two versions, and `pulumi up` continues there"]
    later = Turns(Change(drain=0.05), quiet=0.3)
    again = Run(run.cluster, later, MemberTurns(later))
    again.census()
    again.change("gpu-1")
    assert not run.cluster.members["gpu-1"].cordoned


def test_a_member_whose_upgrade_failed_before_it_began_takes_pods_again(run: Run) -> None:
    run.census()
    with pytest.raises(InitFailed):
        run.change("gpu-1", failed())
    assert run.lines[-1] == "it is as before, and ready: it takes pods again" and run.warnings == []


def test_a_cancelled_member_stays_as_it_is(run: Run) -> None:
    run.census()
    run.cluster.evictions = [HELD]
    run.turns.change = Change(drain=60)
    with pytest.raises(errors.Cancelled):
        run.change("gpu-1", cancel=True)
    assert run.cluster.members["gpu-1"].cordoned


def test_pods_that_do_not_get_ready_fail_the_turn_and_keep_the_new_version(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_turns, "PODS", 0.05)
    run.cluster.pods = 1000
    run.census()
    with pytest.raises(InitFailed) as caught:
        run.change("gpu-1")
    assert caught.value.properties == UPGRADED
    assert caught.value.error.next == "`kubectl describe pod -n glm glm-1`; then `pulumi up`"
    with pytest.raises(errors.FleetError, match="gpu-1 failed"):
        run.change("gpu-2")


def test_a_member_that_does_not_get_ready_stays_cordoned(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_turns, "READY", 0.05)
    run.census()
    with pytest.raises(InitFailed) as caught:
        run.change("gpu-1", ready=False)
    assert caught.value.error.seen == "it is not ready after 0.05 s" and run.cluster.members["gpu-1"].cordoned


def test_a_member_that_is_not_ready_is_upgraded_without_a_wait_for_its_pods(run: Run) -> None:
    run.cluster.set("gpu-1", ready=False)
    run.cluster.evictions = [HELD]
    run.census()
    run.change("gpu-1", ready=True)
    assert run.cluster.events == ["cordon gpu-1", "evict gpu-1", "change gpu-1", "uncordon gpu-1"]


def test_a_reboot_drains_a_member_that_is_ready_and_no_other(run: Run) -> None:
    run.census()
    run.change("gpu-1", kind=Reboot)
    assert run.cluster.events == ["cordon gpu-1", "evict gpu-1", "change gpu-1", "uncordon gpu-1"]
    run.cluster.set("gpu-2", ready=False)
    run.cluster.events.clear()
    run.change("gpu-2", kind=Reboot)
    assert run.cluster.events == ["change gpu-2"]


def test_a_worker_before_the_control_plane_is_not_drained(run: Run) -> None:
    run.cluster.members["cp-1"] = State("v1.36.3", True, False, False, True)
    run.census()
    with pytest.raises(errors.NotReady, match=r"cp-1 has v1\.36\.3"):
        run.change("gpu-1")
    assert run.cluster.events == []


def test_a_member_that_is_out_of_service_uses_up_the_budget(run: Run) -> None:
    run.cluster.set("gpu-2", ready=False)
    run.census()
    with pytest.raises(errors.FleetError) as caught:
        run.change("gpu-1")
    assert caught.value.doing == "not begun" and "gpu-2" in caught.value.seen


def test_another_control_plane_is_asked_where_the_first_does_not_answer(run: Run) -> None:
    run.cluster.silent = ("cp-1",)
    run.census(["cp-1", "cp-2"])
    assert run.members.plane == target("cp-2")
    run.change("gpu-1")
    assert "uncordon gpu-1" in run.cluster.events


def test_without_a_control_plane_that_answers_nothing_is_changed(run: Run) -> None:
    run.cluster.silent = ("cp-1",)
    run.census()
    with pytest.raises(errors.Unreachable):
        run.change("gpu-1")
    assert run.cluster.events == []


def test_before_there_is_a_cluster_nobody_has_a_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_pods, "is_plane", lambda _: False)
    run.census()
    assert not run.turns.enter("gpu-1", run.lines.append, run.cancelled)


@pytest.mark.parametrize(
    ("kind", "level", "drained"),
    [
        ("Host", "reboot", True),
        ("Host", "none", False),
        ("Member", "upgrade", True),
        ("Member", "restart", False),
        ("Member", "recreate", False),
    ],
)
def test_what_moves_pods_has_a_turn_and_all_else_is_changed_at_once(
    run: Run, kind: str, level: str, drained: bool
) -> None:
    changes = ChangeInTurns(turns=run.turns)
    node = {"name": "gpu-1", "address": "192.0.2.2"}
    plane = {"name": "cp-1", "address": "192.0.2.1"}
    urn = f"urn:pulumi:prod::glm-fleet::fleet:index:{kind}::gpu-1"
    request = Request(urn, lambda text, _: run.lines.append(text), run.cancelled, run.warnings.append)
    changes.census(ORDER, {"cp-1": plane, "gpu-1": node, "gpu-2": node}, request, planes=("cp-1",))
    changes.passed("cp-1", True, request)
    resource = Reboot(run.cluster)
    resource.effects = lambda *_: [Effect(level, (), ())]  # type: ignore[attr-defined]
    assert changes.update(cast(Resource, resource), request, {}, {"node": node}, {}) == UPGRADED
    assert ("cordon gpu-1" in run.cluster.events) is drained and not run.cluster.members["gpu-1"].cordoned
