"""A real API server, with the real definitions of Gateway API and Prometheus, accepts every object of a stack, and refuses what it should.

Server dry runs: the namespaces exist, so that Pod Security judges the pods.
"""

import copy
from typing import Any

import pytest

from tests.support import cluster_stack
from tests.support.api_server import ApiServer, RefusedError
from tests.support.cluster_stack import HOMES

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "gateway": {"endpoint": {"gateway": {"name": "inference", "namespace": "gateways", "listener": "https"}}},
    "ingress": {
        "endpoint": {
            "ingress": {
                "class_name": "nginx",
                "namespace": "ingress",
                "tls_secret": "glm-tls",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "64m"},
            }
        }
    },
}
FULL: dict[str, Any] = {
    "models": {
        "glm": {"replicas": 2, "host": "glm.example.com", "surge": 1},
        "air": {"replicas": 1, "host": "air.example.com", "vars": {"vllm_memory": "40g", "vllm_stop_timeout": 30}},
    },
    "quota": {"gpus": 4, "pods": 6},
    "tolerations": [{"key": "amd.com/gpu", "effect": "NoSchedule"}, {"key": "team", "value": "vision"}],
    "clients_from": ["apps"],
    "pull_secrets": ["registry-login"],
    "priority_class": "system-cluster-critical",
    "pod_monitor": {"namespace": "monitoring", "labels": {"release": "prometheus"}},
}
PODS = ("Deployment", "Job")


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that a Deployment or Job makes: Pod Security only warns about these themselves."""
    template, metadata = manifest["spec"]["template"], manifest["metadata"]
    named = {**template["metadata"], "name": metadata["name"], "namespace": metadata["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("way", WAYS)
def test_every_object_of_a_stack_is_accepted(api_server: ApiServer, home: str, way: str) -> None:
    keys = {**FULL, **WAYS[way], "weights": HOMES[home], "namespace": f"{home}-{way}"}
    if way == "none":
        keys["models"] = {"glm": {"replicas": 2}}
    manifests = cluster_stack.objects(cluster_stack.stack(**keys), token="of the hub")
    for key, manifest in manifests.items():
        api_server.apply(manifest, dry_run=not key.startswith("Namespace/"))
    for manifest in manifests.values():
        if manifest["kind"] in PODS:
            api_server.apply(without_quota(pod(manifest)), dry_run=True)


def without_quota(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a pod without its priority class, which a namespace other than kube-system may not use."""
    spec = {key: value for key, value in manifest["spec"].items() if key != "priorityClassName"}
    return {**manifest, "spec": spec}


def test_a_pod_with_a_right_more_is_refused(api_server: ApiServer) -> None:
    manifests = cluster_stack.objects(cluster_stack.stack(namespace="refusals"))
    api_server.apply(manifests["Namespace/refusals"])
    wrong = copy.deepcopy(pod(manifests["Deployment/refusals/glm"]))
    wrong["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_PTRACE"]
    with pytest.raises(RefusedError, match="SYS_PTRACE"):
        api_server.apply(wrong, dry_run=True)
