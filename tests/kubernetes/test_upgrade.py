"""Claims about the upgrade of a cluster of own machines by one minor version, with the genuine kubeadm on bare nodes of the lab.

The provider's own Member and its turns change one control plane and two workers, from the version of previous.mod to the lab's, while a Deployment
with a disruption budget runs there. The Pulumi engine does not take part: it only orders the control planes before the workers.
"""

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.managed import member_pods
from fleet.provider import base
from fleet.provider.base import InitFailed, Request
from fleet.provider.member import Member
from fleet.provider.member_turns import MemberTurns
from fleet.provider.properties import Props
from fleet.provider.slots import Slots
from fleet.provider.turns import Change, Turns
from lab.kubernetes import build
from tests.support import api_server, lab_members, playbook
from tests.support.lab_members import PLANE, Machines

# About ten minutes of two idle cores, and as much again where the previous version is not built yet.
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(5400)]
LAB = "glm-upgrade"
GPUS = {PLANE: 0, "gpu-1": 8, "gpu-2": 8}
WORKERS = ("gpu-1", "gpu-2")
BEFORE, AFTER = (build.version(module).removeprefix("v") for module in (build.PREVIOUS, build.PRESENT))
OUTPUTS = ("part", "version", "endpoint", "authority", "ends")
WEB = {"app": "web"}


@dataclasses.dataclass(frozen=True)
class Cluster(Machines):
    """The members, their states as Pulumi would keep them, the first pods, and the least number of ready ones that was ever seen, by
    the `watch`."""

    states: dict[str, Props]
    first_pods: set[str]
    least: list[int]
    watch: list[futures.Future[None]]

    def inputs(self, name: str, version: str) -> Props:
        variables = {**self.variables[name], "kubernetes_version": version}
        node = {"name": name, **connection_of(self.nodes[name])}
        first = {"name": PLANE, **connection_of(self.nodes[PLANE])}
        asked = {} if name == PLANE else {"control_plane": first}
        if asked and self.states:
            variables["kubernetes_authority"] = self.states[PLANE]["authority"]
        return {"node": node, "roles": {"kubernetes": ""}, "vars": variables, **asked}

    def apply(self, name: str, version: str) -> Props:
        """Make a machine a member, without a turn."""
        return member().apply(request(name, []), self.inputs(name, version), None)

    def upgrade(self, run: "Run", name: str, version: str, interrupted: bool = False) -> None:
        """Upgrade a member in its turn; keep its state, as Pulumi does. `interrupted`: cancel it once it is between two versions."""
        old, inputs, resource = self.states[name], self.inputs(name, version), member()
        resource.refuse(inputs, old)
        work = request(name, run.lines)
        run.turns.enter(name, run.lines.append, work.cancelled)
        with futures.ThreadPoolExecutor() as pool:
            cancel = pool.submit(self.cancel_between_versions, name, work.cancelled) if interrupted else None
            try:
                self.states[name] = run.members.change(resource, work, inputs, old)
            except InitFailed as failure:
                self.states[name] = failure.properties
                raise
            finally:
                if cancel:
                    cancel.result()
        run.turns.resolved(name, True)

    def cancel_between_versions(self, name: str, cancelled: threading.Event) -> None:
        with ssh.connect(self.nodes[name]) as connection:
            api_server.wait(lambda: member_pods.is_upgrading(connection), f"{name} is between two versions", 600)
        cancelled.set()

    def nodes_seen(self) -> dict[str, Any]:
        return {node["metadata"]["name"]: node for node in self.kubectl("get", "nodes", "--output=json")["items"]}

    def versions(self) -> dict[str, str]:
        return {name: node["status"]["nodeInfo"]["kubeletVersion"] for name, node in self.nodes_seen().items()}


@dataclasses.dataclass
class Run:
    """The turns of one run, which has begun with its census, and the lines that it reported."""

    turns: Turns
    members: MemberTurns
    lines: list[str]

    @classmethod
    def begin(cls, cluster: Cluster, done: tuple[str, ...] = ()) -> "Run":
        turns = Turns(Change(drain=300))
        run = cls(turns, MemberTurns(turns), [])
        run.members.census(list(GPUS), {PLANE: cluster.nodes[PLANE]}, request(PLANE, run.lines))
        for name in done:  # their resources are the same
            turns.resolved(name, True)
        return run


def connection_of(node: ssh.Target) -> Props:
    return {name: getattr(node, name) for name in ("address", "port", "user", "identity", "host_key")}


def member() -> Member:
    return Member("Member", OUTPUTS, Slots())


def request(name: str, lines: list[str]) -> Request:
    urn = f"urn:pulumi:upgrade::glm-fleet::fleet:index:Member::{name}"
    return Request(urn, lambda text, _: lines.append(f"{name}: {text}"), threading.Event())


def web(image: str) -> list[dict[str, Any]]:
    """Return a Deployment of two pods, one on each worker while both take pods, and its disruption budget."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": WEB},
    }
    pod = {
        "topologySpreadConstraints": [spread],
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "web", "image": image}],
    }
    template = {"metadata": {"labels": WEB}, "spec": pod}
    place = {"name": "web", "namespace": "default"}
    selector = {"matchLabels": WEB}
    return [
        {
            **{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place},
            "spec": {"replicas": 2, "selector": selector, "template": template},
        },
        {
            **{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": place},
            "spec": {"maxUnavailable": 1, "selector": selector},
        },
    ]


def ready(cluster: Cluster) -> int | None:
    """Return how many pods of the Deployment are ready; None while the API server does not answer."""
    query = "--output='jsonpath=ready={.status.readyReplicas}'"
    text = cluster.kubectl("get", "deployment", "web", query, "--request-timeout=5s", "|| true")
    return int(text.removeprefix("ready=") or 0) if text.startswith("ready=") else None


def pods(cluster: Cluster) -> set[str]:
    """Return the names of the Deployment's pods."""
    return set(cluster.kubectl("get", "pods", "--output=name").split())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("lab")
    patch = pytest.MonkeyPatch()
    patch.setattr(base, "state_dir", lambda: folder)
    with lab_members.machines(LAB, GPUS, folder / "keys", (build.PREVIOUS, build.PRESENT)) as machines:
        made = Cluster(machines.nodes, machines.variables, machines.site, {}, set(), [], [])
        made.states[PLANE] = made.apply(PLANE, BEFORE)
        with futures.ThreadPoolExecutor() as pool:
            joined = pool.map(lambda name: made.apply(name, BEFORE), WORKERS)
            made.states.update(zip(WORKERS, joined, strict=True))
        image = machines.variables[PLANE]["kubernetes_pause_image"]
        for item in web(image):
            made.kubectl("apply", "--filename=-", stdin=json.dumps(item))
        api_server.wait(lambda: ready(made) == 2, "both pods are ready", 300)
        made.first_pods.update(pods(made))
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                if (number := ready(made)) is not None:
                    made.least[:] = [min([*made.least, number])]

        with futures.ThreadPoolExecutor() as pool:
            made.watch.append(pool.submit(watch))
            try:
                yield made
            finally:
                ended.set()
                patch.undo()


def test_the_cluster_has_the_previous_version(cluster: Cluster) -> None:
    assert set(cluster.versions().values()) == {f"v{BEFORE}"}


def test_a_way_down_and_a_worker_before_the_control_plane_change_nothing(cluster: Cluster) -> None:
    major, minor, _ = BEFORE.split(".")
    down = cluster.inputs("gpu-1", f"{major}.{int(minor) - 1}.0")["vars"]
    refused = playbook.run(cluster.nodes["gpu-1"], "member", down, {})
    assert refused.rc != 0 and refused.changed == []
    assert refused.message.startswith(f"this member has Kubernetes {BEFORE}\nwanted: nothing later than {major}.")
    with pytest.raises(errors.NotReady) as caught:
        cluster.upgrade(Run.begin(cluster, (PLANE,)), "gpu-1", AFTER)
    assert caught.value.seen == f"{PLANE} has v{BEFORE}"
    assert set(cluster.versions().values()) == {f"v{BEFORE}"}


def test_the_control_plane_is_upgraded_first_and_the_state_of_etcd_before_is_kept(cluster: Cluster) -> None:
    cluster.upgrade(Run.begin(cluster), PLANE, AFTER)
    assert cluster.states[PLANE]["version"] == AFTER
    assert cluster.versions() == {PLANE: f"v{AFTER}", **dict.fromkeys(WORKERS, f"v{BEFORE}")}
    assert cluster.kubectl("get", "--raw=/version")["gitVersion"] == f"v{AFTER}"
    images = cluster.kubectl(
        "get", "pods", "--namespace=kube-system", "--output='jsonpath={.items[*].spec.containers[*].image}'"
    )
    repository = cluster.variables[PLANE]["kubernetes_image_repository"]
    assert {f"{repository}/{name}:v{AFTER}" for name in ("kube-apiserver", "kube-scheduler")} <= set(images.split())
    kept = cluster.sh(PLANE, "stat --format='%a %n' /var/lib/fleet/etcd /var/lib/fleet/etcd/*.db").split()
    assert kept[:3] == ["700", "/var/lib/fleet/etcd", "600"] and kept[3].startswith(f"/var/lib/fleet/etcd/{BEFORE}-")


def test_an_upgrade_that_was_interrupted_leaves_its_worker_cordoned_and_goes_on(cluster: Cluster) -> None:
    run = Run.begin(cluster, (PLANE,))
    with pytest.raises(InitFailed) as caught:
        cluster.upgrade(run, "gpu-1", AFTER, interrupted=True)
    assert isinstance(caught.value.error, errors.Cancelled)
    assert cluster.nodes_seen()["gpu-1"]["spec"]["unschedulable"]
    with ssh.connect(cluster.nodes["gpu-1"]) as connection:
        assert member_pods.is_upgrading(connection)
    with pytest.raises(errors.FleetError, match="gpu-1 was cancelled"):
        cluster.upgrade(run, "gpu-2", AFTER)
    cluster.upgrade(Run.begin(cluster, (PLANE,)), "gpu-1", AFTER)
    assert cluster.versions()["gpu-1"] == f"v{AFTER}"
    assert "unschedulable" not in cluster.nodes_seen()["gpu-1"]["spec"]
    with ssh.connect(cluster.nodes["gpu-1"]) as connection:
        assert not member_pods.is_upgrading(connection)


def test_a_worker_that_somebody_has_cordoned_stays_so(cluster: Cluster) -> None:
    cluster.kubectl("cordon", "gpu-2")
    cluster.upgrade(Run.begin(cluster, (PLANE, "gpu-1")), "gpu-2", AFTER)
    assert cluster.nodes_seen()["gpu-2"]["spec"]["unschedulable"]
    cluster.kubectl("uncordon", "gpu-2")
    assert set(cluster.versions().values()) == {f"v{AFTER}"}


def test_the_pods_were_never_below_their_budget(cluster: Cluster) -> None:
    assert cluster.watch[0].running() and cluster.least[0] >= 1
    assert pods(cluster).isdisjoint(cluster.first_pods), "each worker's pod had to move"
    api_server.wait(lambda: ready(cluster) == 2, "both pods are ready again", 300)


@pytest.mark.parametrize("name", GPUS)
def test_a_second_run_changes_nothing(cluster: Cluster, name: str) -> None:
    variables = cluster.inputs(name, AFTER)["vars"]
    again = playbook.run(cluster.nodes[name], "member", variables, {})
    assert (again.rc, again.changed) == (0, []), again.message
    assert set(cluster.sh(name, "apt-mark showhold").split()) == {"kubeadm", "kubelet", "kubectl"}


def test_nobody_goes_back(cluster: Cluster) -> None:
    with pytest.raises(errors.NotReady) as caught:
        cluster.upgrade(Run.begin(cluster), PLANE, BEFORE)
    assert caught.value.wanted == "no earlier version: kubeadm takes no way back"
