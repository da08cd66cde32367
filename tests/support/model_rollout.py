"""A model's Deployment on a real API server, as fleet.program makes it in what the room fleet/cluster looks at, and golden messages.

Used by the tests of tests/kubernetes.
"""

import re
from pathlib import Path

from fleet.cluster import Cluster, nodes, workloads
from tests.support import api_server as support
from tests.support.api_server import ApiServer, Object
from tests.support.played_kubelet import PLAYS

GOLDEN = Path(__file__).parents[1] / "kubernetes" / "golden" / "rollout"
LABEL = "amd.com/gpu.product-name"
SELECTOR = {LABEL: ["AMD_Instinct_MI300X_OAM"]}
PLUGIN = "pulumi-kubernetes-1a2b3c"  # the manager of the fields that Pulumi's plugin applies


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


def serve(server: ApiServer, namespace: str, replicas: int = 2) -> dict[str, str]:
    """Deploy a model with its disruption budget, whose pods need a whole node; return its pods by node once they are ready."""
    item = deployment(namespace, "one", gpus=8)
    item["spec"]["replicas"] = replicas
    place = {"name": "glm", "namespace": namespace}
    budget = {"maxUnavailable": 1, "selector": item["spec"]["selector"], "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    server.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": place, "spec": budget})
    apply(server, item)
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/glm"
    allowed = "the disruption budget knows the pods"
    support.wait(lambda: (server.request("GET", path).get("status") or {}).get("currentHealthy") == replicas, allowed)
    return {each["spec"]["nodeName"]: each["metadata"]["name"] for each in ready(server, namespace)}


def ready(server: ApiServer, namespace: str) -> list[Object]:
    """Return the pods of the model that are ready."""
    pods = server.pods({"glm-fleet/model": "glm"}, namespace)
    return [
        each
        for each in pods
        if any(c["status"] == "True" for c in each["status"].get("conditions", ()) if c["type"] == "Ready")
    ]


def expect_golden(cluster: Cluster, namespace: str, claim: str, message: str) -> None:
    """Compare a message, less the test's own names, with the golden text."""
    text = message.replace(str(cluster.access.file), "KUBECONFIG").replace(namespace, "NAMESPACE")
    text = re.sub(r"glm-[0-9a-f]{6,10}-[a-z0-9]{5}", "POD", text)
    text = re.sub(r"on gpu-[12]", "on NODE", text)
    assert text + "\n" == (GOLDEN / f"{claim}.txt").read_text()
