"""The Docker daemon answers only root on its machine, and verifies its registries: policies/rules/daemon.py."""

from typing import Any

import pytest

from policies.context import Context
from tests.support.policy_resources import context, messages, only_message


def daemon(**options: Any) -> Context:
    options = {name.replace("_", "-"): value for name, value in options.items()}
    return context("Host", vars={"docker_daemon_options": options})


@pytest.mark.parametrize(
    "hosts", [["tcp://0.0.0.0:2375"], ["fd://", "tcp://127.0.0.1:2375"], "tcp://192.0.2.1", ["192.0.2.1:2375"]]
)
def test_a_daemon_on_the_network_is_refused(hosts: Any) -> None:
    assert only_message("daemon-listens-locally", daemon(hosts=hosts)).startswith("docker_daemon_options.hosts has ")


@pytest.mark.parametrize("hosts", [["unix:///var/run/docker.sock"], ["fd://"], []])
def test_a_daemon_on_its_own_socket_passes(hosts: list[str]) -> None:
    assert messages("daemon-listens-locally", daemon(hosts=hosts)) == []
    assert messages("daemon-listens-locally", daemon()) == []


@pytest.mark.parametrize(
    ("rule", "option"), [("registries-proved", "insecure_registries"), ("no-daemon-plugins", "authorization_plugins")]
)
def test_an_option_that_gives_others_access_is_refused(rule: str, option: str) -> None:
    assert "['registry.example:5000']" in only_message(rule, daemon(**{option: ["registry.example:5000"]}))
    assert messages(rule, daemon(**{option: []})) == []
    assert messages(rule, daemon()) == []


@pytest.mark.parametrize("text", ["{{ x }}", "{% if 1 %}tcp://0.0.0.0{% endif %}", "{# x #}"])
def test_options_that_only_ansible_could_evaluate_are_refused(text: str) -> None:
    message = only_message("values-plain", daemon(hosts=[text]))
    assert message.startswith("docker_daemon_options contains an expression: ")
