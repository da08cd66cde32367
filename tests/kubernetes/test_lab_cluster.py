"""What the lab asks of a cluster by kubectl, on a real API server: that it answers, that a node is ready with its GPUs, AMD's labels."""

import json

import pytest

from lab.commands import LabError, works
from lab.kubernetes import build, cluster, machine_files, pki
from tests.support import api_server as support
from tests.support.api_server import ApiServer


@pytest.fixture
def lab(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> cluster.Cluster:
    """The API server as a cluster of the lab. No container has a journal."""
    build.ensure("cp")
    monkeypatch.setattr(cluster, "CONTEXT", "admin")
    monkeypatch.setattr(cluster, "docker", lambda *words: "the kubelet's journal")
    folder = api_server.kubeconfig.parent
    return cluster.Cluster("lab", folder, "127.0.0.1", [], "", "", api_server.keys)


def node(server: ApiServer, name: str, gpus: int) -> machine_files.Node:
    support.add_node(server, name, {machine_files.GPU: str(gpus), "pods": "10"})
    return machine_files.Node(name, "127.0.0.1", 1)


def test_a_node_that_offers_its_gpus_gets_the_labels_of_amd(api_server: ApiServer, lab: cluster.Cluster) -> None:
    cluster.await_api_server(lab)
    cluster.await_node(lab, node(api_server, "glm-1", 8), 8)
    labels = json.loads(cluster.kubectl(lab.kubeconfig, "get", "node/glm-1", "--output=json"))["metadata"]["labels"]
    assert cluster.LABELS.items() <= labels.items()


def test_a_node_with_too_few_gpus_is_no_node_of_the_cluster(
    api_server: ApiServer, lab: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY", 1)
    with pytest.raises(LabError) as caught:
        cluster.await_node(lab, node(api_server, "glm-2", 7), 8)
    message = str(caught.value)
    assert "timed out waiting for the condition on nodes/glm-2" in message and message.endswith(
        "\nthe kubelet's journal"
    )


def test_the_api_server_may_forward_ports_on_a_node_once_the_lab_has_allowed_it(lab: cluster.Cluster) -> None:
    # can-i exits with 1 for "no".
    question = ("auth", "can-i", "create", "nodes", "--subresource=proxy", f"--as={pki.KUBELETS_CLIENT}")
    with pytest.raises(LabError, match="ended with 1"):
        cluster.kubectl(lab.kubeconfig, *question)
    for _ in range(2):  # a cluster whose creation failed is made again
        objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": [cluster.KUBELETS_CLIENT]}).encode()
        cluster.kubectl(lab.kubeconfig, "apply", "--server-side", "--filename=-", stdin=objects)
    support.wait(lambda: works(*cluster._kubectl(lab.kubeconfig), *question), "the API server may forward ports")
