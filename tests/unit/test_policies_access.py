"""Who may ask the server, and where it listens: policies/rules/access.py."""

from typing import Any

import pytest

from policies.stack import Stack
from tests.support.policy_resources import KEY, context, flags, messages, only_message, serving


def test_a_server_without_a_key_is_refused() -> None:
    assert only_message("api-key-set-and-secret", context(api_key=None)).startswith("no api_key: ")
    assert only_message("api-key-set-and-secret", context(api_key="")).startswith("no api_key: ")


def test_a_key_that_can_be_guessed_is_refused_and_not_repeated() -> None:
    message = only_message("api-key-set-and-secret", context(api_key="hallo-welt"))
    assert message.startswith("the api_key has fewer than 20 characters: it can be guessed\nremedy: `openssl rand")
    assert "hallo-welt" not in message


def test_the_shortest_key_has_twenty_characters() -> None:
    assert only_message("api-key-set-and-secret", context(api_key=KEY[:19])).startswith(
        "the api_key has fewer than 20 characters"
    )
    assert messages("api-key-set-and-secret", context(api_key=KEY[:20])) == []


def test_a_key_in_clear_in_the_stack_file_is_refused() -> None:
    stack = Stack(source="ssh", clear=frozenset({"vllm_api_key"}))
    assert "vllm_api_key is in clear in the stack file" in only_message("api-key-set-and-secret", context(stack=stack))


@pytest.mark.parametrize(
    "where",
    [{"vllm_flags": {"api-key": KEY}}, {"vllm_flags": {"api_key": KEY}}, {"vllm_environment": {"VLLM_API_KEY": KEY}}],
)
def test_a_key_among_the_variables_is_refused_and_not_repeated(where: dict[str, Any]) -> None:
    message = only_message("api-key-set-and-secret", serving(**where))
    assert "in clear in the stack file" in message
    assert KEY not in message


@pytest.mark.parametrize(
    "where", [{"vllm_flags": {"host": "0.0.0.0"}}, {"vllm_entrypoint": ["vllm", "serve", "--host=192.0.2.1"]}]
)
def test_nothing_but_the_unit_says_where_a_replica_listens(where: dict[str, Any]) -> None:
    assert only_message("on-loopback-only", serving(**where)).startswith("vllm_flags.host is set: ")
    assert messages("on-loopback-only", serving()) == []


@pytest.mark.parametrize("name", ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION"])
def test_a_door_for_developers_is_refused(name: str) -> None:
    assert only_message("no-developer-doors", serving(vllm_environment={name: "1"})).startswith(
        f"vllm_environment.{name} is on"
    )
    assert messages("no-developer-doors", serving(vllm_environment={name: "0"})) == []


@pytest.mark.parametrize(
    "where",
    [
        {"vllm_flags": "{{ more_flags }}"},
        {"vllm_flags": {"trust-remote-code": "{{ true }}"}},
        {"vllm_environment": {"{{ name }}": "1"}},
        {"vllm_chat_template": "{{ '' }}"},
        {"vllm_entrypoint": ["{{ command }}"]},
    ],
)
def test_an_expression_where_rules_judge_is_refused(where: dict[str, Any]) -> None:
    (variable,) = where
    assert only_message("values-plain", serving(**where)).startswith(f"{variable} contains an expression: ")
    assert messages("values-plain", flags(max_model_len=4096)) == []
