"""Claims about machines that become a cluster by the role kubernetes: the genuine kubeadm on two bare nodes of the lab.

Each test reads what one run of the role on each of both has left. Packages and images hold the lab's own builds (lab.kubernetes.own_cluster).
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import ssh
from lab import site
from lab.kubernetes import own_cluster
from tests.support import labs, playbook

pytestmark = pytest.mark.exhaustive
LAB = "glm-own-cluster"
GPUS = {"cp-1": 0, "gpu-1": 8}


@dataclasses.dataclass(frozen=True)
class Members:
    """Two machines, the variables of the role for each, and the runs that made them members, by name."""

    nodes: dict[str, ssh.Target]
    variables: dict[str, dict[str, Any]]
    runs: dict[str, playbook.Run]

    def sh(self, name: str, command: str) -> str:
        with ssh.connect(self.nodes[name]) as connection:
            return connection.run(command).stdout

    def kubectl(self, *words: str) -> Any:
        """Ask the API server as its administrator, on the control plane; return what it prints, read as JSON where it is."""
        text = self.sh("cp-1", f"kubectl --kubeconfig=/etc/kubernetes/admin.conf {' '.join(words)}")
        return json.loads(text) if text.startswith("{") else text

    def again(self, name: str, check: bool = False) -> playbook.Run:
        return playbook.run(self.nodes[name], "member", self.variables[name], {}, check)


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    folder = tmp_path_factory.mktemp("lab") / "keys"
    site.remove(LAB, folder)
    try:
        supplied = site.create(LAB, ["ubuntu-24.04", "kubernetes"], folder)["vars"]
        common = own_cluster.supply(LAB, supplied["docker_registry_certificates"][site.REGISTRY])
        nodes = {name: bare(name, gpus, folder) for name, gpus in GPUS.items()}
        endpoint = f"{nodes['cp-1'].address}:6443"
        variables = {
            name: {
                **common,
                "kubernetes_name": name,
                "kubernetes_address": node.address,
                "kubernetes_gpus": GPUS[name],
                "kubernetes_endpoint": endpoint,
                "kubernetes_part": "first" if name == "cp-1" else "worker",
            }
            for name, node in nodes.items()
        }
        made = Members(nodes, variables, {})
        made.runs["cp-1"] = playbook.run(nodes["cp-1"], "member", variables["cp-1"], {})
        assert made.runs["cp-1"].rc == 0, made.runs["cp-1"].message
        variables["gpu-1"]["kubernetes_authority"] = made.runs["cp-1"].results["fleet_member"]["authority"]
        token = made.sh("cp-1", "kubeadm token create --ttl 10m").strip()
        made.runs["gpu-1"] = playbook.run(
            nodes["gpu-1"], "member", variables["gpu-1"], {"KUBERNETES_JOIN_TOKEN": token}
        )
        assert made.runs["gpu-1"].rc == 0, made.runs["gpu-1"].message
        yield made
    finally:
        site.remove(LAB, folder)


def bare(name: str, gpus: int, folder: Any) -> ssh.Target:
    node = ssh.Target.from_inputs({"name": name, **own_cluster.create_node(LAB, name, gpus, folder)})
    ssh.wait(node, labs.BOOT, lambda _text: None)
    return node


def test_both_members_are_ready_at_the_pinned_version(members: Members) -> None:
    nodes = {node["metadata"]["name"]: node for node in members.kubectl("get", "nodes", "--output=json")["items"]}
    assert nodes.keys() == GPUS.keys()
    for node in nodes.values():
        ready = next(entry for entry in node["status"]["conditions"] if entry["type"] == "Ready")
        assert ready["status"] == "True"
        assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{members.variables['cp-1']['kubernetes_version']}"


def test_the_member_with_gpus_offers_them_and_has_the_labels_of_amd(members: Members) -> None:
    node = members.kubectl("get", "node", "gpu-1", "--output=json")
    assert node["status"]["allocatable"]["amd.com/gpu"] == "8"
    assert node["metadata"]["labels"]["amd.com/gpu.product-name"] == "AMD_Instinct_MI300X_OAM"


def test_a_control_plane_without_gpus_takes_no_pods_of_users(members: Members) -> None:
    node = members.kubectl("get", "node", "cp-1", "--output=json")
    assert {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"} in node["spec"]["taints"]
