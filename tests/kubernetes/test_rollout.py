"""A change of a model's pods on a real API server with its controllers and scheduler: followed, stopped where it must, taken back.

No kubelet is there: tests/support/played_kubelet.py reports the pods. The messages have golden texts.
"""

import threading
from typing import Any

import pytest

from fleet import errors
from fleet.cluster import Access, Cluster, gpus, nodes, pods, rollout, workloads
from fleet.cluster.rollout import Change
from tests.support import api_server as support
from tests.support.api_server import ApiServer
from tests.support.model_rollout import PLUGIN, SELECTOR, apply, deployment, expect_golden

pytestmark = pytest.mark.usefixtures("short_interval")


@pytest.fixture
def cluster(gpu_server: ApiServer) -> Cluster:
    return Cluster(Access("admin", str(gpu_server.kubeconfig)))


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


def test_a_change_is_followed_until_all_pods_have_the_new_template(
    gpu_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(gpu_server, deployment(namespace, "one"))
    first, _ = follow(cluster, change(namespace, "one"))
    apply(gpu_server, deployment(namespace, "two", FLAG="2"))
    second, lines = follow(cluster, change(namespace, "two"))
    assert len(first) == len(second) == 2
    assert {pod.uid for pod in first}.isdisjoint({pod.uid for pod in second})
    assert sorted(pod.node for pod in second) == ["gpu-1", "gpu-2"]
    assert all("of 2 pods serve with the new template" in line for line in lines)


@pytest.mark.parametrize("plays", ["wrong", "crash", "pull"])
def test_a_change_that_cannot_serve_is_stopped_with_its_reason_while_one_old_pod_serves(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, plays: str
) -> None:
    apply(gpu_server, deployment(namespace, "one"))
    follow(cluster, change(namespace, "one"))
    apply(gpu_server, deployment(namespace, "two", plays))
    expect_failure(cluster, change(namespace, "two"), plays)
    serving = [pod for pod in pods.of_namespace(cluster, namespace, {}) if pod.ready]
    assert len(serving) == 1


def test_going_back_leaves_the_fields_to_who_applied_them_so_that_the_next_change_has_no_conflict_and_no_leftover(
    gpu_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(gpu_server, deployment(namespace, "one", ONLY_IN_ONE="1"))
    follow(cluster, change(namespace, "one"))
    apply(gpu_server, deployment(namespace, "two", "wrong"))
    with pytest.raises(errors.RolloutFailed):
        follow(cluster, change(namespace, "two"))
    found = workloads.read(cluster, namespace, "glm")
    assert found
    earlier = found.with_digest("one")
    assert earlier
    workloads.put_template(cluster, namespace, "glm", earlier.template)
    back, _ = follow(cluster, change(namespace, "one"))
    assert len(back) == 2
    apply(gpu_server, deployment(namespace, "three", FLAG="3"))  # without force: a conflict would be refused
    follow(cluster, change(namespace, "three"))
    live = gpu_server.get(deployment(namespace, "three"))
    assert live["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "FLAG", "value": "3"}]
    managers = {entry["manager"] for entry in live["metadata"]["managedFields"] if not entry.get("subresource")}
    assert PLUGIN in managers
    assert "glm-fleet" not in managers


def test_fields_are_given_back_though_a_controller_changes_the_deployment_meanwhile(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(gpu_server, deployment(namespace, "one"))
    send, times = cluster.send, []

    def send_later(doing: str, method: str, path: str, body: Any, *more: Any, **query: str) -> Any:
        if body[-1]["path"] == "/metadata/managedFields":
            times.append(path)
            if len(times) < 3:
                touched = {"metadata": {"annotations": {"touched": str(len(times))}}}
                gpu_server.request("PATCH", path, touched, form="merge-patch+json", fieldManager="controller")
        return send(doing, method, path, body, *more, **query)

    monkeypatch.setattr(cluster, "send", send_later)
    workloads.put_template(cluster, namespace, "glm", deployment(namespace, "two")["spec"]["template"])
    assert len(times) >= 3
    live = gpu_server.get(deployment(namespace, "two"))
    assert "glm-fleet" not in {entry["manager"] for entry in live["metadata"]["managedFields"]}


def test_a_shortage_names_the_nodes_and_which_pods_hold_their_gpus(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "PLACE", 1.0)
    apply(gpu_server, deployment(namespace, "one", gpus=5))
    follow(cluster, change(namespace, "one"))
    item = deployment(namespace, "one", gpus=5)
    item["spec"]["replicas"] = 3
    apply(gpu_server, item)
    expect_failure(cluster, change(namespace, "one"), "shortage")


def test_a_shortage_says_that_it_does_not_see_the_pods_of_others_without_the_right(
    gpu_server: ApiServer, namespace: str
) -> None:
    gpu_server.add_account("fleet", namespace, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
    rights = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    grant(gpu_server, "nodes", namespace, rights)
    limited = Cluster(Access("fleet", str(gpu_server.kubeconfig)))
    shares = gpus.look(limited, SELECTOR, namespace)
    assert shares.lines() == [
        "gpu-1: 8 of 8 free",
        "gpu-2: 8 of 8 free",
        "(pods of other namespaces: no right to list them)",
    ]


def grant(gpu_server: ApiServer, name: str, namespace: str, rule: Any) -> None:
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
    gpu_server.apply(role, binding)


def test_a_quota_that_is_too_small_is_named(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "REFUSAL", 1.0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "models", "namespace": namespace}}
    gpu_server.apply({**quota, "spec": {"hard": {f"requests.{nodes.GPU}": "8"}}})
    support.wait(lambda: "used" in gpu_server.get(quota).get("status", {}), "the quota is counted")
    apply(gpu_server, deployment(namespace, "one"))
    expect_failure(cluster, change(namespace, "one"), "quota")


def test_a_pod_that_pod_security_refuses_is_named(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "REFUSAL", 1.0)
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    gpu_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": level}})
    apply(gpu_server, deployment(namespace, "one"))
    expect_failure(cluster, change(namespace, "one"), "pod-security")


def test_a_pod_that_never_gets_ready_ends_the_change_at_its_time(
    gpu_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(gpu_server, deployment(namespace, "one", "never"))
    expect_failure(cluster, change(namespace, "one", seconds=3), "late")


def test_a_template_that_somebody_else_changed_is_not_followed(
    gpu_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(gpu_server, deployment(namespace, "other"))
    expect_failure(cluster, change(namespace, "one"), "another")


def test_a_deployment_that_is_gone_is_named(cluster: Cluster, namespace: str) -> None:
    expect_failure(cluster, change(namespace, "one"), "gone")


def test_a_cancel_ends_the_wait_and_leaves_the_change_to_kubernetes(
    gpu_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    apply(gpu_server, deployment(namespace, "one", "never"))
    timer = threading.Timer(1, cluster.cancelled.set)
    timer.start()
    with pytest.raises(errors.Cancelled):
        follow(cluster, change(namespace, "one"))
    timer.join()
