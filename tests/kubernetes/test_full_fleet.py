"""A full fleet changes one pod after the other under the stack's own quota, though the pod that ends still counts there."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import api_server as support
from tests.support import cluster_stack
from tests.support.api_server import ApiServer

NODE = {"amd.com/gpu": "4", "pods": "10", "cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti"}
MI300X = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
PODS = {"glm-fleet/model": "glm"}
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "models", "namespace": "glm"}}
KINDS = ("Namespace", "ResourceQuota", "Secret", "ConfigMap", "Deployment")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with support.running(tmp_path_factory.mktemp("full_fleet"), controllers=True) as server:
        yield server


def deploy(cluster: ApiServer, **variables: Any) -> dict[str, Any]:
    """Apply the objects of a stack with two pods; return its Deployment."""
    objects = cluster_stack.objects(cluster_stack.stack(variables, weights=cluster_stack.HOMES["image"]))
    cluster.apply(*(manifest for manifest in objects.values() if manifest["kind"] in KINDS))
    deployment: dict[str, Any] = objects["Deployment/glm/glm"]
    return deployment


@pytest.mark.timeout(60)
def test_a_pod_is_replaced_while_its_predecessor_still_ends(cluster: ApiServer) -> None:
    for name in ("glm-1", "glm-2"):
        support.add_node(cluster, name, NODE, MI300X)
    deploy(cluster)
    support.wait(lambda: len(nodes(cluster)) == 2, "both pods have a node")
    for pod in cluster.pods(PODS, "glm"):
        support.make_ready(cluster, pod)
    support.wait(lambda: "used" in cluster.get(QUOTA)["status"], "the quota counts")
    deployment = deploy(cluster, vllm_stop_timeout=90)
    support.wait(lambda: len(cluster.pods(PODS, "glm", deleted=True)) == 1, "one pod ends")
    support.wait(lambda: len(cluster.pods(PODS, "glm")) == 2, "its successor exists, and waits for its GPUs")
    status = cluster.get(deployment)["status"]
    assert [each for each in status["conditions"] if each["type"] == "ReplicaFailure"] == []


def nodes(cluster: ApiServer) -> list[str]:
    return [pod["spec"]["nodeName"] for pod in cluster.pods(PODS, "glm") if "nodeName" in pod["spec"]]
