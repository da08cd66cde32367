"""A machine runs a supported system and driver, replicas fit its GPUs, and it is protected: policies/rules/machines.py."""

import re
from dataclasses import replace
from typing import Any

import pytest

from policies import data
from policies.context import UNKNOWN, Context
from policies.stack import Stack
from tests.support.policy_resources import RIGHT, context, messages, only_message, serving


@pytest.mark.parametrize("pair", data.drivers(), ids=lambda pair: pair.driver)
def test_each_pair_of_amd_passes(pair: data.Driver) -> None:
    variables = {"rocm_driver_release": pair.driver, "rocm_version": pair.rocm}
    assert messages("driver-and-rocm-known", context("Host", vars=variables)) == []
    for build in (f"1:{pair.build}.24.04", f"1:{pair.build.partition('-')[0]}*"):
        host = context("Host", vars={**variables, "rocm_driver_version": build})
        assert messages("driver-and-rocm-known", host) == []


def test_the_roles_own_pair_passes() -> None:
    assert messages("driver-and-rocm-known", Context("Host", "prod-1", {"vars": {}}, stack=Stack(source="ssh"))) == []


def test_another_pair_is_refused_with_those_of_amd() -> None:
    message = only_message("driver-and-rocm-known", context("Host", vars={"rocm_version": "7.0.2"}))
    assert message.startswith("driver 30.30.3 with ROCm 7.0.2: each has its own versions")
    assert 'remedy: rocm_version: "7.2.3", or another pair of 30.10.2 with 7.0.2, ' in message


def test_an_unknown_driver_is_refused() -> None:
    message = only_message("driver-and-rocm-known", context("Host", vars={"rocm_driver_release": "latest"}))
    assert message.startswith("driver latest with ROCm 7.2.3: ") and "remedy: one of 30.10.2 with 7.0.2" in message


def test_a_build_of_another_release_is_refused() -> None:
    host = context("Host", vars={"rocm_driver_version": "1:6.14.14.30100200*"})
    message = only_message("driver-and-rocm-known", host)
    assert "is not of driver 30.30.3" in message and "6.16.13.30300300-2327507" in message


@pytest.mark.parametrize("pair", data.drivers(), ids=lambda pair: pair.driver)
def test_apt_finds_the_version_that_the_remedy_names(pair: data.Driver) -> None:
    """For apt a version that ends with `*` is a prefix; another `*` in it means nothing (roles/rocm/vars/main.yml)."""
    variables = {"rocm_driver_release": pair.driver, "rocm_version": pair.rocm}
    host = context("Host", vars={**variables, "rocm_driver_version": "1:6.1.2*"})
    (advice,) = re.findall(r'or write "(.+)"', only_message("driver-and-rocm-known", host))
    assert advice.endswith("*") and f"1:{pair.build}.24.04".startswith(advice[:-1])
    assert messages("driver-and-rocm-known", context("Host", vars={**variables, "rocm_driver_version": advice})) == []


def test_the_rule_skips_a_host_without_amd_s_driver() -> None:
    variables = {"rocm_driver_packages": [], "rocm_driver_release": "none"}
    assert messages("driver-and-rocm-known", context("Host", vars=variables)) == []


def machine(system: str = "ubuntu 24.04", kernel: str = "6.8.0-85-generic", **more: Any) -> Context:
    """Return a Node with this system and kernel in its outputs."""
    return context("Node", facts={"system": system, "kernel": kernel, "arch": "x86_64"}, **more)


@pytest.mark.parametrize(
    ("system", "kernel"),
    [
        ("ubuntu 24.04", "6.8.0-85-generic"),
        ("ubuntu 24.04", "6.17.0-14-generic"),
        ("ubuntu 22.04", "5.15.0-160-generic"),
        ("debian 12", "6.1.0-40-amd64"),
        ("debian 13", "6.12.57+deb13-amd64"),
    ],
)
def test_a_system_and_kernel_of_amd_s_list_pass(system: str, kernel: str) -> None:
    assert messages("system-known", machine(system, kernel)) == messages("kernel-known", machine(system, kernel)) == []


def test_another_system_is_refused_with_the_list() -> None:
    message = only_message("system-known", machine("debian 11"))
    assert message.startswith("prod-1 runs debian 11, ROCm 7.2.3: AMD lists this ROCm only for other systems\n")
    assert "remedy: install one of ubuntu 24.04, ubuntu 22.04, debian 12, debian 13" in message


@pytest.mark.parametrize("kernel", ["6.11.0-29-generic", "6.80.0", "7.0.0-1-generic"])
def test_another_kernel_is_reported_with_those_of_the_list(kernel: str) -> None:
    message = only_message("kernel-known", machine(kernel=kernel))
    assert message.startswith(f"prod-1 had kernel {kernel} when it was first reached: ")
    assert "remedy: boot kernel 6.8 or 6.17 of ubuntu 24.04" in message


def test_the_rules_skip_system_and_kernel_of_a_lab_node() -> None:
    lab = Stack(source="lab")
    assert messages("kernel-known", machine(kernel="4.4.0", stack=lab)) == []
    assert messages("system-known", machine("debian 11", stack=lab)) == []


@pytest.mark.parametrize("facts", [UNKNOWN, {}, None])
def test_the_rules_skip_a_new_machine(facts: Any) -> None:
    node = context("Node", facts=facts)
    assert messages("system-known", node) == messages("kernel-known", node) == []


def test_the_rules_skip_a_rocm_without_a_list() -> None:
    node = machine("debian 11", "4.4.0")
    newest = {("Host", "prod-1"): {"vars": {"rocm_version": "99"}}}
    assert messages("system-known", replace(node, others=newest)) == []
    assert messages("kernel-known", replace(node, others={})) == []


def replicas(*gpus: list[int]) -> list[dict[str, Any]]:
    return [{"name": f"glm-{place}", "port": 8000 + place, "gpus": own} for place, own in enumerate(gpus)]


@pytest.mark.parametrize(
    ("wrong", "start"),
    [
        (replicas([0, 8]), "vllm_replicas[0].gpus 8: the machine has 8 GPUs"),
        (replicas([0], [0]), "vllm_replicas[1].gpus 0: replica glm-0 has this gpu already"),
    ],
)
def test_replicas_fit_the_gpus_of_their_machine(wrong: list[dict[str, Any]], start: str) -> None:
    assert only_message("replicas-fit-gpus", serving(vllm_replicas=wrong)).startswith(start)
    assert messages("replicas-fit-gpus", serving(vllm_replicas=replicas([0, 1, 2, 3], [4, 5, 6, 7]))) == []


def test_replicas_that_listen_on_ports_have_one_each() -> None:
    replica = {"name": "x", "port": 8000, "gpus": [1]}
    on_host = serving(vllm_replicas=[*replicas([0]), replica], vllm_network="host")
    assert only_message("replicas-fit-gpus", on_host).startswith("vllm_replicas[1].port 8000: ")
    assert messages("replicas-fit-gpus", serving(vllm_replicas=[*replicas([0]), replica])) == []


def test_the_rule_skips_replicas_that_are_partly_unknown() -> None:
    replica = {"name": "glm-0", "port": 8000, "gpus": [UNKNOWN, 9]}
    assert messages("replicas-fit-gpus", serving(vllm_replicas=[replica])) == []


def test_the_rule_counts_the_gpus_of_the_node_and_not_of_the_settings() -> None:
    small = {("Node", "prod-1"): {**RIGHT["Node"], "gpus": 1}}
    assert len(messages("replicas-fit-gpus", replace(serving(), others=small))) == 7  # by default a role has 8 replicas
    assert messages("replicas-fit-gpus", replace(serving(), others={})) == []


@pytest.mark.parametrize("kind", ["BareMetal", "Node", "Host", "Weights", "Serving"])
def test_an_unprotected_machine_is_refused(kind: str) -> None:
    message = only_message("machines-protected", context(kind, protect=False))
    assert message.startswith(f"{kind} prod-1 is not protected: ")
    assert "glm-fleet:release" in message
    assert messages("machines-protected", context(kind)) == []


@pytest.mark.parametrize("stack", [Stack(source="lab"), Stack(source="ssh", release={"prod-1": "mainboard replaced"})])
def test_a_lab_node_and_a_released_machine_need_no_protection(stack: Stack) -> None:
    assert messages("machines-protected", context("Node", stack=stack, protect=False)) == []


def test_each_released_machine_is_reported_with_its_reason() -> None:
    stack = Stack(source="ssh", release={"prod-1": "mainboard replaced 2026-11-25", "prod-2": "sold"})
    end = (
        "Pulumi no longer protects it, and can replace or delete it; "
        "a delete leaves weights and driver there, unless glm-fleet:purge names them"
    )
    assert [message.splitlines()[0] for message in messages("machines-released", context("Stack", stack=stack))] == [
        f"prod-1 is released (mainboard replaced 2026-11-25): {end}",
        f"prod-2 is released (sold): {end}",
    ]
    assert messages("machines-released", context("Stack")) == []


@pytest.mark.parametrize(
    ("purge", "end"),
    [
        (("weights",), "a delete leaves driver there, unless glm-fleet:purge names them"),
        (("weights", "driver"), "a delete leaves nothing"),
    ],
)
def test_the_report_of_a_released_machine_says_what_a_delete_leaves(purge: tuple[str, ...], end: str) -> None:
    stack = Stack(source="ssh", release={"prod-1": "sold"}, purge=purge)
    assert only_message("machines-released", context("Stack", stack=stack)).splitlines()[0].endswith(f"; {end}")


def test_the_release_of_one_machine_releases_no_other() -> None:
    stack = Stack(source="ssh", release={"prod-2": "mainboard replaced"})
    assert messages("machines-protected", context("Node", stack=stack, protect=False))
