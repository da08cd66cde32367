"""Who may read and reach what on a machine: the containers the model, the node proxy the replicas."""

from typing import Any

import pytest

from fleet.stack import rules
from fleet.stack.rules import access
from tests.support.builders import bf16

ALIKE = {"vllm_user": 10001, "vllm_group": 10001, "weights_group": 10001, "weights_owner": 0}


def found(rule: rules.Rule, values: dict[str, Any], **plan: bool) -> list[tuple[str, str]]:
    return [(finding.key, finding.seen) for finding in rule.check(rules.MachinePlan(bf16() | values, 8, **plan))]


@pytest.mark.parametrize("changed", [{"vllm_group": 10002}, {"weights_group": "10002"}])
def test_containers_of_a_group_that_may_not_read_the_model_are_a_mistake(changed: dict[str, Any]) -> None:
    ((key, seen),) = found(access.model_readable, ALIKE | changed)
    assert key == "vllm_group"
    assert seen == f"the model is readable for group {changed.get('weights_group', 10001)} (weights_group)"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"vllm_group": "10001"},
        {"vllm_group": 10002, "weights_group": 10002},
        {"vllm_group": 10002, "weights_owner": 10001},
        {"vllm_group": "{{ site_group }}"},
    ],
)
def test_containers_that_may_read_the_model_or_may_turn_out_so_are_right(changed: dict[str, Any]) -> None:
    assert found(access.model_readable, ALIKE | changed) == []


def test_kubernetes_gives_a_pod_the_group_of_its_volume() -> None:
    assert found(access.model_readable, ALIKE | {"vllm_group": 10002}, pod=True) == []


PORTS = "the replicas listen on ports of the host, and the node proxy expects their sockets"
SOCKETS = "the node proxy's group fleet-proxy may not open the replicas' sockets"


@pytest.mark.parametrize(
    ("values", "findings"),
    [
        ({}, []),
        ({"vllm_network": "bridge", "vllm_socket_group": "fleet-proxy"}, []),
        ({"vllm_network": "host"}, [("vllm_network", PORTS)]),
        ({"vllm_host_network": True}, [("vllm_host_network", PORTS)]),
        ({"vllm_socket_group": "docker"}, [("vllm_socket_group", SOCKETS)]),
    ],
)
def test_behind_a_gateway_the_node_proxy_reaches_the_replicas(
    values: dict[str, Any], findings: list[tuple[str, str]]
) -> None:
    assert found(access.proxy_reaches_replicas, values, gateway=True) == findings
    assert found(access.proxy_reaches_replicas, values) == []
