"""The serving container has no right that it does not need: policies/rules/container.py."""

import pytest

from policies.rules import container
from tests.policies import one, serving, told

SWITCHES = {
    "container-not-privileged": "vllm_privileged",
    "no-host-network": "vllm_host_network",
    "no-host-ipc": "vllm_ipc_host",
    "no-ptrace": "vllm_ptrace",
    "seccomp-on": "vllm_seccomp_unconfined",
}


def test_there_is_a_rule_for_each_broad_flag_of_the_reference_recipe() -> None:
    assert {rule.name for rule in container.RULES} == set(SWITCHES)


@pytest.mark.parametrize(("rule", "variable"), SWITCHES.items())
def test_a_switch_that_is_on_is_refused(rule: str, variable: str) -> None:
    assert one(rule, serving(**{variable: True})).startswith(f"{variable} is on: ")
    assert f"\nremedy: leave {variable} out; " in one(rule, serving(**{variable: True}))
    assert told(rule, serving(**{variable: False})) == []
    assert told(rule, serving()) == []  # the role's default


@pytest.mark.parametrize("value", ["yes", "true", "on", 1, "{{ true }}", ["x"]])
def test_what_cannot_be_read_as_off_counts_as_on(value: object) -> None:
    assert "vllm_privileged is on" in one("container-not-privileged", serving(vllm_privileged=value))


@pytest.mark.parametrize("value", ["no", "false", "off", "0", 0, ""])
def test_off_may_be_written_as_ansible_reads_it(value: object) -> None:
    assert told("container-not-privileged", serving(vllm_privileged=value)) == []
