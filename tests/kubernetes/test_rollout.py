"""A change of a model's pods on a real API server with its controllers and scheduler: followed, stopped where it must, taken back.

No kubelet is there: tests/support/played_kubelet.py reports the pods. The messages have golden texts.
"""

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.cluster import Access, Cluster, gpus, nodes, pods, rollout, workloads
from fleet.cluster.rollout import Change
from tests.support import api_server as support
from tests.support.api_server import ApiServer, Object
from tests.support.played_kubelet import PLAYS, Kubelet

GOLDEN = Path(__file__).parent / "golden" / "rollout"
LABEL = "amd.com/gpu.product-name"
SELECTOR = {LABEL: ["AMD_Instinct_MI300X_OAM"]}
ROOM = {"cpu": "64", "memory": "2000Gi", "pods": "20"}
NUMBERS = itertools.count()
PLUGIN = "pulumi-kubernetes-1a2b3c"  # the manager of the fields that Pulumi's plugin applies


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A cluster with two nodes, each with 8 GPUs."""
    with support.running(tmp_path_factory.mktemp("rollout"), controllers=True) as server:
        for name in ("gpu-1", "gpu-2"):
            support.add_node(server, name, {**ROOM, nodes.GPU: "8"}, {LABEL: SELECTOR[LABEL][0]})
        yield server


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "INTERVAL", 0.2)


@pytest.fixture
def cluster(server: ApiServer) -> Cluster:
    return Cluster(Access("admin", str(server.kubeconfig)))


@pytest.fixture
def namespace(server: ApiServer) -> Iterator[str]:
    """A namespace of the test's own, whose pods have a kubelet."""
    name = f"rollout-{next(NUMBERS)}"
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    support.wait(lambda: _exists(server, account), "the namespace has its account")
    kubelet = Kubelet(server, name)
    yield name
    server.request("DELETE", f"/apis/apps/v1/namespaces/{name}/deployments", propagationPolicy="Foreground")
    support.wait(lambda: not server.request("GET", f"/api/v1/namespaces/{name}/pods")["items"], "its pods have ended")
    kubelet.close()


def _exists(server: ApiServer, path: str) -> bool:
    try:
        return bool(server.request("GET", path))
    except support.RefusedError:
        return False


def deployment(namespace: str, digest: str, plays: str = "ready", gpus: int = 8, **env: str) -> Object:
    """Return the Deployment of a model, as fleet.program makes it, in what this room looks at."""
    labels = {"glm-fleet/model": "glm"}
    container = {
        "name": "vllm",
        "image": "registry.example/glm/serving@sha256:" + "a" * 64,
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "resources": {"limits": {nodes.GPU: str(gpus)}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "glm", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": {workloads.TEMPLATE: digest, PLAYS: plays}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }


def apply(server: ApiServer, item: Object, force: bool = False) -> None:
    """Apply it as Pulumi's plugin does."""
    query = {"fieldManager": PLUGIN, "fieldValidation": "Strict", "force": str(force).lower()}
    server.request("PATCH", server.path(item), item, form="apply-patch+yaml", **query)


def change(namespace: str, digest: str, seconds: float = 60) -> Change:
    return Change(namespace, "glm", digest, seconds, SELECTOR)


def follow(cluster: Cluster, wanted: Change) -> tuple[list[pods.Pod], list[str]]:
    lines: list[str] = []
    return rollout.follow(cluster, wanted, lines.append), lines


def expect_failure(cluster: Cluster, wanted: Change, claim: str) -> errors.RolloutFailed:
    with pytest.raises(errors.RolloutFailed) as caught:
        follow(cluster, wanted)
    expect_golden(cluster, wanted.namespace, claim, str(caught.value))
    return caught.value


def expect_golden(cluster: Cluster, namespace: str, claim: str, message: str) -> None:
    """Compare a message, less the test's own names, with the golden text."""
    text = message.replace(str(cluster.access.file), "KUBECONFIG").replace(namespace, "NAMESPACE")
    text = re.sub(r"glm-[0-9a-f]{6,10}-[a-z0-9]{5}", "POD", text)
    text = re.sub(r"on gpu-[12]", "on NODE", text)
    assert text + "\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_a_change_is_followed_until_all_pods_have_the_new_template(
    server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(server, deployment(namespace, "one"))
    first, _ = follow(cluster, change(namespace, "one"))
    apply(server, deployment(namespace, "two", FLAG="2"))
    second, lines = follow(cluster, change(namespace, "two"))
    assert len(first) == len(second) == 2
    assert {pod.uid for pod in first}.isdisjoint({pod.uid for pod in second})
    assert sorted(pod.node for pod in second) == ["gpu-1", "gpu-2"]
    assert all("of 2 pods serve with the new template" in line for line in lines)


@pytest.mark.parametrize("plays", ["wrong", "crash", "pull"])
def test_a_change_that_cannot_serve_is_stopped_with_its_reason_while_one_old_pod_serves(
    server: ApiServer, cluster: Cluster, namespace: str, plays: str
) -> None:
    apply(server, deployment(namespace, "one"))
    follow(cluster, change(namespace, "one"))
    apply(server, deployment(namespace, "two", plays))
    expect_failure(cluster, change(namespace, "two"), plays)
    serving = [pod for pod in pods.of_namespace(cluster, namespace, {}) if pod.ready]
    assert len(serving) == 1


def test_going_back_leaves_the_fields_to_who_applied_them_so_that_the_next_change_has_no_conflict_and_no_leftover(
    server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(server, deployment(namespace, "one", ONLY_IN_ONE="1"))
    follow(cluster, change(namespace, "one"))
    apply(server, deployment(namespace, "two", "wrong"))
    with pytest.raises(errors.RolloutFailed):
        follow(cluster, change(namespace, "two"))
    found = workloads.read(cluster, namespace, "glm")
    assert found
    earlier = found.with_digest("one")
    assert earlier
    workloads.put_template(cluster, namespace, "glm", earlier.template)
    back, _ = follow(cluster, change(namespace, "one"))
    assert len(back) == 2
    apply(server, deployment(namespace, "three", FLAG="3"))  # without force: a conflict would be refused
    follow(cluster, change(namespace, "three"))
    live = server.get(deployment(namespace, "three"))
    assert live["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "FLAG", "value": "3"}]
    managers = {entry["manager"] for entry in live["metadata"]["managedFields"] if not entry.get("subresource")}
    assert PLUGIN in managers
    assert "glm-fleet" not in managers


def test_a_shortage_names_the_nodes_and_which_pods_hold_their_gpus(
    server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "PLACE", 1.0)
    apply(server, deployment(namespace, "one", gpus=5))
    follow(cluster, change(namespace, "one"))
    item = deployment(namespace, "one", gpus=5)
    item["spec"]["replicas"] = 3
    apply(server, item)
    expect_failure(cluster, change(namespace, "one"), "shortage")


def test_a_shortage_says_that_it_does_not_see_the_pods_of_others_without_the_right(
    server: ApiServer, namespace: str
) -> None:
    server.add_account("fleet", namespace, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
    rights = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    grant(server, "nodes", namespace, rights)
    limited = Cluster(Access("fleet", str(server.kubeconfig)))
    shares = gpus.look(limited, SELECTOR, namespace)
    assert shares.lines() == [
        "gpu-1: 8 of 8 free",
        "gpu-2: 8 of 8 free",
        "(pods of other namespaces: no right to list them)",
    ]


def grant(server: ApiServer, name: str, namespace: str, rule: Any) -> None:
    """Give the account `fleet` of the namespace a right in the whole cluster."""
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "fleet", "namespace": namespace}],
    }
    server.apply(role, binding)


def test_a_quota_that_is_too_small_is_named(
    server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "REFUSAL", 1.0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "models", "namespace": namespace}}
    server.apply({**quota, "spec": {"hard": {f"requests.{nodes.GPU}": "8"}}})
    support.wait(lambda: "used" in server.get(quota).get("status", {}), "the quota is counted")
    apply(server, deployment(namespace, "one"))
    expect_failure(cluster, change(namespace, "one"), "quota")


def test_a_pod_that_pod_security_refuses_is_named(
    server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "REFUSAL", 1.0)
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": level}})
    apply(server, deployment(namespace, "one"))
    expect_failure(cluster, change(namespace, "one"), "pod-security")


def test_a_pod_that_never_gets_ready_ends_the_change_at_its_time(
    server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(server, deployment(namespace, "one", "never"))
    expect_failure(cluster, change(namespace, "one", seconds=3), "late")


def test_a_template_that_somebody_else_changed_is_not_followed(
    server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(server, deployment(namespace, "other"))
    expect_failure(cluster, change(namespace, "one"), "another")


def test_a_deployment_that_is_gone_is_named(cluster: Cluster, namespace: str) -> None:
    expect_failure(cluster, change(namespace, "one"), "gone")


def test_a_cancel_ends_the_wait_and_leaves_the_change_to_kubernetes(
    server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(server, deployment(namespace, "one", "never"))
    timer = threading.Timer(1, cluster.cancelled.set)
    timer.start()
    with pytest.raises(errors.Cancelled):
        follow(cluster, change(namespace, "one"))
    timer.join()
