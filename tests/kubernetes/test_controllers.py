"""Claims about the suite's API server with controllers: a test can play the kubelet, and Deployments roll out."""

from collections.abc import Iterator

import pytest

from tests.support import api_server as support
from tests.support.api_server import ApiServer, Object

GPUS = {"amd.com/gpu": "8", "pods": "10"}
LABELS = {"app": "model"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with support.running(tmp_path_factory.mktemp("controllers"), controllers=True) as server:
        yield server


def deployment(command: str) -> Object:
    limits = {"amd.com/gpu": "8"}
    containers = [
        {"name": "model", "image": "none.invalid/none", "command": [command], "resources": {"limits": limits}}
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "model", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": LABELS},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": containers}},
        },
    }


def test_a_full_fleet_rolls_out_one_pod_after_the_other(cluster: ApiServer) -> None:
    for name in ("glm-1", "glm-2"):
        support.add_node(cluster, name, GPUS)
    cluster.apply(deployment("first"))
    support.wait(lambda: len(cluster.pods(LABELS)) == 2, "both pods exist")
    support.wait(lambda: nodes(cluster) == ["glm-1", "glm-2"], "each pod has a node of its own")
    for pod in cluster.pods(LABELS):
        support.make_ready(cluster, pod)
    support.wait(lambda: ready(cluster) == 2, "the Deployment is complete")
    cluster.apply(deployment("second"))
    support.wait(lambda: commands(cluster).count("second") == 1, "one pod is new, and one is of the last template")
    assert commands(cluster) == ["first", "second"]
    support.wait(lambda: "Insufficient amd.com/gpu" in reason(cluster), "the new pod has no place")
    [old] = cluster.pods(LABELS, deleted=True)
    support.end_pod(cluster, old)
    support.wait(lambda: nodes(cluster) == ["glm-1", "glm-2"], "the new pod has the place of the old one")


def nodes(cluster: ApiServer) -> list[str]:
    return sorted(pod["spec"].get("nodeName", "") for pod in cluster.pods(LABELS))


def commands(cluster: ApiServer) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["command"][0] for pod in cluster.pods(LABELS))


def ready(cluster: ApiServer) -> int:
    return cluster.get(deployment("first"))["status"].get("readyReplicas", 0)


def reason(cluster: ApiServer) -> str:
    """Return why a pod has no node."""
    conditions = [each for pod in cluster.pods(LABELS) for each in pod["status"].get("conditions", [])]
    return " ".join(each["message"] for each in conditions if each["type"] == "PodScheduled" and "message" in each)
