"""Who may use the vLLM server, and where it listens: policies/rules/access.py."""

from typing import Any

import pytest

from policies.stack import Stack
from tests.support.policy_resources import KEY, context, flags, messages, only_message, serving


@pytest.mark.parametrize("key", [None, ""])
def test_a_server_without_a_key_is_refused(key: str | None) -> None:
    assert only_message("api-key-set-and-secret", context(api_key=key)).startswith("no api_key: ")


@pytest.mark.parametrize("key", ["hallo-welt", KEY[:19]])
def test_a_key_of_fewer_than_twenty_characters_is_refused_and_not_repeated(key: str) -> None:
    message = only_message("api-key-set-and-secret", context(api_key=key))
    assert message.startswith("the api_key has fewer than 20 characters: it can be guessed\nremedy: `openssl rand")
    assert key not in message


def test_a_key_of_twenty_characters_passes() -> None:
    assert messages("api-key-set-and-secret", context(api_key=KEY[:20])) == []


def test_a_key_in_clear_in_the_stack_file_is_refused() -> None:
    stack = Stack(source="ssh", clear=frozenset({"vllm_api_key"}))
    assert "vllm_api_key is in clear in the stack file" in only_message("api-key-set-and-secret", context(stack=stack))


@pytest.mark.parametrize(
    "variables",
    [{"vllm_flags": {"api-key": KEY}}, {"vllm_flags": {"api_key": KEY}}, {"vllm_environment": {"VLLM_API_KEY": KEY}}],
)
def test_a_key_among_the_variables_is_refused_and_not_repeated(variables: dict[str, Any]) -> None:
    message = only_message("api-key-set-and-secret", serving(**variables))
    assert "in clear in the stack file" in message
    assert KEY not in message


@pytest.mark.parametrize(
    "variables", [{"vllm_flags": {"host": "0.0.0.0"}}, {"vllm_entrypoint": ["vllm", "serve", "--host=192.0.2.1"]}]
)
def test_only_the_unit_sets_where_a_replica_listens(variables: dict[str, Any]) -> None:
    assert only_message("on-loopback-only", serving(**variables)).startswith("vllm_flags.host is set: ")
    assert messages("on-loopback-only", serving()) == []


@pytest.mark.parametrize("name", ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION"])
def test_an_interface_for_developers_is_refused(name: str) -> None:
    message = only_message("no-developer-doors", serving(vllm_environment={name: "1"}))
    assert message.startswith(f"vllm_environment.{name} is on")
    assert messages("no-developer-doors", serving(vllm_environment={name: "0"})) == []


@pytest.mark.parametrize(
    "variables",
    [
        {"vllm_flags": "{{ more_flags }}"},
        {"vllm_flags": {"trust-remote-code": "{{ true }}"}},
        {"vllm_environment": {"{{ name }}": "1"}},
        {"vllm_chat_template": "{{ '' }}"},
        {"vllm_entrypoint": ["{{ command }}"]},
    ],
)
def test_an_expression_in_a_variable_that_rules_check_is_refused(variables: dict[str, Any]) -> None:
    (variable,) = variables
    assert only_message("values-plain", serving(**variables)).startswith(f"{variable} contains an expression: ")
    assert messages("values-plain", flags(max_model_len=4096)) == []
