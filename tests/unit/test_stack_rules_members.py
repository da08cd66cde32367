"""Rules about machines that become a cluster: each edge, of machines with GPUs and without."""

from typing import Any

import pytest

from fleet.stack import mirrors, requirements, role_vars, rules, settings, validate
from tests.support import change_table
from tests.support.cluster_of_machines import IMAGES, PINNED, stack

ROLES = role_vars.load(change_table.ROLES)


def plan(machine: str = "cp-1", **variables: Any) -> rules.MachinePlan:
    return validate.machine_plan(settings.read(stack(["cp-1"], vars={**IMAGES, **variables}), "file"), ROLES, machine)


def keys(machine: str = "cp-1", **variables: Any) -> list[str]:
    """Return the keys of what the rules about members find."""
    own = plan(machine, **variables)
    return [finding.key for rule in rules.OF_MEMBERS for finding in rule.check(own)]


@pytest.mark.parametrize("machine", ["cp-1", "gpu-1"])
def test_the_defaults_are_pinned_and_apart(machine: str) -> None:
    assert keys(machine) == []


@pytest.mark.parametrize("variable", [*IMAGES, "kubernetes_network_image"])
def test_an_image_of_the_system_s_pods_is_named_by_digest(variable: str) -> None:
    assert keys(**{variable: "docker.io/amd:1.31"}) == [variable]


def test_an_engine_of_the_stack_s_own_needs_its_sum_and_every_image_by_digest_and_no_kube_router() -> None:
    own = {
        "kubernetes_network_manifest": "https://example.com/calico.yaml",
        "kubernetes_network_image": "kube-router:v2",
    }
    assert keys(**own) == ["kubernetes_network_sha256"]
    named = {**own, "kubernetes_network_sha256": "ab" * 32}
    assert keys(**named, kubernetes_network_images={"node:v3": PINNED}) == []
    assert keys(**named, kubernetes_network_images={"node:v3": "node:v4"}) == ["kubernetes_network_images.node:v3"]


@pytest.mark.parametrize(("pods", "at"), [("10.96.0.0/12", "service"), ("10.244.0.0", ""), ("ten", "pod")])
def test_networks_that_overlap_or_are_none_are_found(pods: str, at: str) -> None:
    assert keys(kubernetes_pod_network=pods) == ([f"kubernetes_{at}_network"] if at else [])


def test_a_member_with_gpus_and_no_device_plugin_is_a_warning() -> None:
    empty = dict.fromkeys(IMAGES, "")
    assert keys("gpu-1", **empty) == [*IMAGES] and keys("cp-1", **empty) == []
    assert {rule.level for rule in rules.OF_MEMBERS if rule.name == "member-gpus"} == {"warning"}


def test_a_stack_has_the_key_of_the_repository() -> None:
    assert [finding.key for finding in rules.member_key.check(plan())] == ["kubernetes_repository_key"]
    assert not list(rules.member_key.check(plan(kubernetes_repository_key="-----BEGIN")))


# --- mirrors, and what a machine must reach


def test_a_member_fetches_kubernetes_and_nothing_of_models() -> None:
    items = list(mirrors.items(plan("gpu-1").values))
    names = {item.name for item in items}
    assert {"kubeadm 1.37.2", "containerd", "registry.k8s.io/kube-proxy:v1.37.2", PINNED} <= names
    assert {item.source for item in items if item.name == "kubelet 1.37.2"} == {
        "https://pkgs.k8s.io/core:/stable:/v1.37/deb"
    }
    assert "registry.k8s.io/pause:3.10.2" in names and any("kube-router@sha256:" in name for name in names)
    assert not {"weights", "commit"} & {item.kind for item in items} and "docker.io" not in names


def test_one_mirror_of_packages_and_one_of_images_stand_for_all_of_a_member_s_sources() -> None:
    own = {"kubernetes": "https://mirror.example/k8s", "registry": "registry.other:5000"}
    read = settings.read(stack(["cp-1"], vars=IMAGES, mirrors=own), "file")
    addresses = requirements.of_machine(read, ROLES, "cp-1", "cluster")["addresses"]
    assert addresses == ["mirror.example:443", "registry.other:5000"]
    values = validate.machine_plan(read, ROLES, "cp-1").values
    assert values["kubernetes_image_repository"] == "registry.other:5000"


def test_a_member_needs_no_docker_and_no_room_for_weights() -> None:
    wanted = requirements.of_machine(settings.read(stack(["cp-1"], vars=IMAGES), "file"), ROLES, "gpu-1", "cluster")
    assert (wanted["docker_packages"], wanted["space"]) == ([], [])
    assert {"pkgs.k8s.io:443", "registry.k8s.io:443", "docker.io:443", "registry.example:443"} <= set(
        wanted["addresses"]
    )
