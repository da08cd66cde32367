"""The files that the role kubernetes writes, for the first control plane, for one that joins, for a worker with GPUs; and how it applies objects.

Kubeadm and containerd read the same files on lab nodes (tests/kubernetes/test_own_cluster.py).
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.support import kubernetes_role
from tests.support.kubernetes_role import DIGEST, Rendered

ROLE = kubernetes_role.ROLE


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return kubernetes_role.render(tmp_path_factory.mktemp("rendered"))


def test_the_first_control_plane_makes_a_cluster_at_its_endpoint_and_keeps_no_token(rendered: Rendered) -> None:
    init, cluster, proxy = rendered["first"]["init"]
    assert cluster["controlPlaneEndpoint"] == "api.example.com:6443" and cluster["kubernetesVersion"] == "v1.37.2"
    assert init["bootstrapTokens"] == [{"ttl": "1m0s"}]
    assert init["localAPIEndpoint"] == {"advertiseAddress": "10.0.0.1", "bindPort": 6443}
    assert (cluster["dns"], cluster["proxy"], proxy["mode"]) == ({"disabled": False}, {"disabled": False}, "nftables")


def test_a_machine_that_joins_knows_the_cluster_by_its_authority_alone(rendered: Rendered) -> None:
    discovery = rendered["worker"]["discovery"]
    (cluster,) = discovery["clusters"]
    assert cluster["cluster"]["server"] == "https://api.example.com:6443" and discovery["users"] == []
    assert rendered["worker"]["join"]["discovery"] == {
        "file": {"kubeConfigPath": "/etc/kubernetes/fleet/cluster.conf"},
        "tlsBootstrapToken": "abcdef.0123456789abcdef",
    }


def test_only_a_control_plane_joins_with_the_key_of_the_certificates(rendered: Rendered) -> None:
    assert rendered["second"]["join"]["controlPlane"]["certificateKey"] == "5f" * 32
    assert "controlPlane" not in rendered["worker"]["join"]


def test_a_control_plane_with_gpus_takes_pods_of_users_and_one_without_does_not(rendered: Rendered) -> None:
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    assert rendered["first"]["init"][0]["nodeRegistration"]["taints"] == [taint]
    assert rendered["second"]["join"]["nodeRegistration"]["taints"] == []


def test_a_stack_s_options_of_the_kubelet_are_merged_over_those_of_the_role(rendered: Rendered) -> None:
    assert rendered["worker"]["kubelet"]["systemReserved"] == {"cpu": "8", "memory": "8Gi"}
    assert rendered["first"]["kubelet"]["systemReserved"] == {"cpu": "2", "memory": "8Gi"}


def test_a_member_waits_for_its_gpus_and_registers_with_the_label_of_the_device_plugin(rendered: Rendered) -> None:
    version = "jsonpath={.status.nodeInfo.kubeletVersion}=v1.37.2"
    gpus = r"jsonpath={.status.allocatable.amd\.com/gpu}=8"
    assert rendered["worker"]["waits"] == [version, "condition=Ready", gpus]
    assert "--node-labels=glm-fleet/gpus=true" in rendered["worker"]["kubelet_arguments"]
    assert rendered["first"]["waits"] == [version, "condition=Ready"]
    assert "--node-labels" not in rendered["first"]["kubelet_arguments"]


def test_containerd_takes_pause_and_registries_from_the_stack(rendered: Rendered) -> None:
    settings = tomllib.loads(rendered["worker"]["containerd.toml"])
    images = settings["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] == "registry.k8s.io/pause:3.10.2"
    assert images["registry"]["config_path"] == "/etc/containerd/certs.d"


def test_the_objects_of_the_gpus_are_valid_and_select_the_members_with_gpus(rendered: Rendered) -> None:
    objects = [document for document in yaml.safe_load_all(rendered["first"]["devices.yaml"]) if document]
    assert [document["kind"] for document in objects] == [
        *("DaemonSet", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet")
    ]
    for document in objects:
        if document["kind"] == "DaemonSet":
            assert document["spec"]["template"]["spec"]["nodeSelector"] == {"glm-fleet/gpus": "true"}


def test_the_network_engine_routes_and_enforces_policies_and_leaves_services_to_kube_proxy(rendered: Rendered) -> None:
    objects = {document["kind"]: document for document in yaml.safe_load_all(rendered["first"]["network.yaml"])}
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"--run-router=true", "--run-firewall=true", "--run-service-proxy=false"} <= set(container["args"])
    assert container["args"][-1] == "--overlay-encap=fou", "the stack's own flags come last"
    assert {entry["image"] for entry in (container, *pod["initContainers"])} == {kubernetes_role.NETWORK}
    (rule,) = [rule for rule in objects["ClusterRole"]["rules"] if "networkpolicies" in rule["resources"]]
    assert all(set(rule["verbs"]) == {"get", "list", "watch"} for rule in objects["ClusterRole"]["rules"]), rule


def test_a_network_engine_of_the_stack_s_own_takes_the_place_of_kube_router(rendered: Rendered) -> None:
    assert rendered["first"]["network_objects"]["sha256"] == "" and rendered["first"]["network_objects"]["images"] == {}
    assert rendered["second"]["network_objects"] == {
        "file": f"/etc/kubernetes/fleet/network-{'cd' * 6}.yaml",
        "url": "https://example.com/calico.yaml",
        "sha256": "cd" * 32,
        "images": {"quay.io/calico/node:v3.32.2": f"registry.example.com:5000/calico/node{DIGEST}"},
    }


def test_the_repository_of_kubernetes_is_flat_and_of_its_minor_version(rendered: Rendered) -> None:
    assert rendered["first"]["kubernetes.sources"].splitlines()[1:4] == [
        "Types: deb",
        "URIs: https://pkgs.k8s.io/core:/stable:/v1.37/deb",
        "Suites: /",
    ]
    assert rendered["first"]["packages"] == ["kubeadm=1.37.2-*", "kubelet=1.37.2-*", "kubectl=1.37.2-*", "containerd"]


# --- apply.py, with a kubectl that records

KUBECTL = """#!/bin/sh
echo "$@" >> {folder}/calls
cat > {folder}/$2
[ "$2" != diff ] || exit {differs}
[ ! -s {folder}/problems ] || {{ head -n 1 {folder}/problems >&2; sed -i 1d {folder}/problems; exit 1; }}
"""


class Applying:
    """apply.py in a folder with a kubectl that stands in: `differs` is what its diff exits with."""

    def __init__(self, folder: pathlib.Path, differs: int) -> None:
        self.folder = folder
        program = folder / "kubectl"
        program.write_text(KUBECTL.format(folder=folder, differs=differs))
        program.chmod(0o755)

    def __call__(self, manifest: str, *more: str, sha256: str | None = None, **images: str) -> Any:
        file = self.folder / "manifest.yaml"
        file.write_text(manifest)
        query = {"file": str(file), "url": "", "sha256": sha256 or "", "images": images}
        command = [sys.executable, str(ROLE / "files/apply.py"), "/etc/kubernetes/admin.conf", *more]
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        return subprocess.run(command, input=json.dumps(query), capture_output=True, text=True, env=environment)

    @property
    def verbs(self) -> list[str]:
        calls = self.folder / "calls"
        return [line.split()[1] for line in calls.read_text().splitlines()] if calls.exists() else []


PINNED = f"spec:\n  containers:\n    - name: x\n      image: registry.example.com/x{DIGEST}\n"


def test_objects_that_differ_are_applied_and_those_that_do_not_are_left(tmp_path: pathlib.Path) -> None:
    for differs, verbs in ((1, ["diff", "apply"]), (0, ["diff"])):
        (folder := tmp_path / str(differs)).mkdir()
        applying = Applying(folder, differs)
        assert json.loads(applying(PINNED).stdout) == {"changed": bool(differs)} and applying.verbs == verbs


STARTING = 'error: error validating "STDIN": error validating data: failed to download openapi: unknown'
BUSY = 'Error from server (ServiceUnavailable): error when creating "STDIN": apiserver not ready'
REFUSAL = 'Error from server (Forbidden): error when creating "STDIN": admission webhook denied the request'


def test_an_api_server_that_restarts_is_waited_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "problems").write_text(f"{STARTING}\n{BUSY}\n")
    applying = Applying(tmp_path, 1)
    assert json.loads(applying(PINNED).stdout) == {"changed": True}
    assert applying.verbs == ["diff", "apply", "apply", "apply"]


def test_a_refusal_of_the_api_server_ends_it_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "problems").write_text(f"{REFUSAL}\n")
    applying = Applying(tmp_path, 1)
    run = applying(PINNED)
    assert (run.returncode, run.stderr.strip()) == (1, REFUSAL) and applying.verbs == ["diff", "apply"]


def test_check_mode_applies_nothing(tmp_path: pathlib.Path) -> None:
    applying = Applying(tmp_path, 1)
    assert json.loads(applying(PINNED, "check").stdout) == {"changed": True} and applying.verbs == ["diff"]


@pytest.mark.parametrize("line", ["image: {}", 'image: "{}"', "- image: {}", '"image": "{}",'])
def test_an_image_of_the_manifest_is_replaced_by_the_one_of_the_stack(tmp_path: pathlib.Path, line: str) -> None:
    applying = Applying(tmp_path, 1)
    run = applying("x:\n    " + line.format("quay.io/node:v3") + "\n", **{"quay.io/node:v3": f"mine/node{DIGEST}"})
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "apply").read_text() == "x:\n    " + line.format(f"mine/node{DIGEST}") + "\n"


def test_an_image_without_a_digest_stops_it(tmp_path: pathlib.Path) -> None:
    applying = Applying(tmp_path, 1)
    run = applying("    image: quay.io/node:v3\n")
    assert run.stderr.splitlines() == [
        "the manifest names quay.io/node:v3",
        "wanted: each image by digest, from your registry",
        "next: add it to kubernetes_network_images: {IMAGE: REGISTRY/PATH@sha256:…}",
    ]
    assert run.returncode == 1 and applying.verbs == []


def test_a_manifest_with_another_sum_stops_it(tmp_path: pathlib.Path) -> None:
    applying = Applying(tmp_path, 1)
    other = hashlib.sha256(b"another").hexdigest()
    run = applying(PINNED, sha256=other)
    assert run.returncode == 1 and f"\nwanted: {other} (kubernetes_network_sha256)\n" in run.stderr
    assert applying.verbs == []
