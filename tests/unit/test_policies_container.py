"""The serving container has only the rights that it needs: policies/rules/container.py."""

import pytest

from policies.rules import container
from tests.support.policy_resources import messages, only_message, serving
from tests.support.policy_resources import rule as container_rule

SWITCHES = {
    "container-not-privileged": "vllm_privileged",
    "no-host-ipc": "vllm_ipc_host",
    "no-ptrace": "vllm_ptrace",
    "seccomp-on": "vllm_seccomp_unconfined",
}


def test_there_is_a_rule_for_each_broad_flag_of_the_reference_recipe() -> None:
    assert {rule.name for rule in container.RULES} == {*SWITCHES, "no-host-network", "no-way-out"}, (
        "add the rule of policies/rules/container.py to SWITCHES here with its variable, or test it on its own and name it here"
    )


@pytest.mark.parametrize(
    ("variables", "start"),
    [
        ({"vllm_host_network": True}, "vllm_host_network is on: "),
        ({"vllm_network": "host"}, "vllm_network is host: "),
        ({"vllm_network": "anything"}, "vllm_network is anything: "),
        ({"vllm_network": "bridge", "vllm_host_network": "yes"}, "vllm_host_network is on: "),
    ],
)
def test_the_host_s_network_is_refused_in_either_spelling(variables: dict[str, object], start: str) -> None:
    assert only_message("no-host-network", serving(**variables)).startswith(f"{start}the ports of torch.distributed")


def test_a_port_on_every_address_of_the_machine_is_refused_too() -> None:
    network, port = messages("no-host-network", serving(vllm_network="host", vllm_host_address="0.0.0.0"))
    assert network.startswith("vllm_network is host: ")
    assert port.startswith("vllm_host_address is 0.0.0.0: /invocations, /tokenize and /metrics are then open")


def test_a_bridge_is_a_warning_with_the_addresses_that_it_opens() -> None:
    assert container_rule("no-way-out").level == "warning"
    message = only_message("no-way-out", serving(vllm_network="bridge"))
    assert message.startswith("vllm_network is bridge: ") and "169.254.169.254" in message
    assert messages("no-host-network", serving(vllm_network="bridge")) == []


def test_no_network_passes_and_is_the_default() -> None:
    for about in (serving(), serving(vllm_network="none", vllm_host_network=False)):
        assert messages("no-host-network", about) == messages("no-way-out", about) == []


@pytest.mark.parametrize(("rule", "variable"), SWITCHES.items())
def test_a_switch_that_is_on_is_refused(rule: str, variable: str) -> None:
    message = only_message(rule, serving(**{variable: True}))
    assert message.startswith(f"{variable} is on: ") and f"\nremedy: leave {variable} out; " in message
    assert messages(rule, serving(**{variable: False})) == []
    assert messages(rule, serving()) == []  # the role's default


@pytest.mark.parametrize("value", ["yes", "true", "on", 1, "{{ true }}", ["x"]])
def test_a_value_that_does_not_mean_off_counts_as_on(value: object) -> None:
    assert "vllm_privileged is on" in only_message("container-not-privileged", serving(vllm_privileged=value))


@pytest.mark.parametrize("value", ["no", "false", "off", "0", 0, ""])
def test_each_spelling_that_ansible_reads_as_off_passes(value: object) -> None:
    assert messages("container-not-privileged", serving(vllm_privileged=value)) == []
