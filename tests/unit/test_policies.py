"""What may never be deployed: each rule lets the right thing pass and names reason and remedy of the wrong one."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pulumi_policy import EnforcementLevel
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

# policies/ is a pack that the engine starts by its folder, not a package to import from.
_SPEC = importlib.util.spec_from_file_location("policy_rules", Path(__file__).parents[2] / "policies" / "rules.py")
assert _SPEC and _SPEC.loader
rules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rules)

DIGEST = "registry.example/glm@sha256:" + "ab" * 32
KEY = "0123456789abcdef0123456789abcdef"


def serving(**changes: Any) -> Any:
    """Return the inputs of a right Serving as the SDK hands them to a rule, with some of them changed."""
    right = {"image": DIGEST, "api_key": KEY, "vars": {"vllm_image": DIGEST, "vllm_flags": {}}}
    return unknown_checking_proxy({**right, **changes})


@pytest.mark.parametrize("rule", [rules.image_by_digest, rules.container_not_privileged, rules.api_key_set])
def test_what_is_right_passes(rule: Any) -> None:
    assert rule(serving()) == ""


@pytest.mark.parametrize("image", ["registry.example/glm:latest", "registry.example/glm", "glm@sha256:ab"])
def test_an_image_without_digest_is_refused(image: str) -> None:
    assert image in rules.image_by_digest(serving(image=image))
    assert image in rules.image_by_digest(serving(vars={"transformers_base_image": image}))


def test_an_image_that_never_left_its_node_is_named_by_its_id() -> None:
    assert rules.image_by_digest(serving(image="sha256:" + "ab" * 32)) == ""


def test_a_privileged_container_is_refused() -> None:
    message = rules.container_not_privileged(serving(vars={"vllm_privileged": True}))
    assert "vllm_privileged is on" in message
    assert rules.container_not_privileged(serving(vars={"vllm_privileged": False})) == ""


def test_a_server_without_a_key_is_refused() -> None:
    assert "no api_key" in rules.api_key_set(unknown_checking_proxy({"image": DIGEST}))
    assert "no api_key" in rules.api_key_set(serving(api_key=""))


def test_a_key_that_can_be_guessed_is_refused_and_not_repeated() -> None:
    message = rules.api_key_set(serving(api_key="hallo-welt"))
    assert "fewer than 20 characters" in message
    assert "hallo-welt" not in message


def test_a_key_in_clear_in_the_stack_file_is_refused_and_not_repeated() -> None:
    message = rules.api_key_secret(f"config:\n  glm-fleet:vllm_api_key: {KEY}\n")
    assert "stands in clear" in message
    assert KEY not in message


@pytest.mark.parametrize("text", ["", "config:\n", "config:\n  glm-fleet:vllm_api_key: {secure: v1:abc}\n"])
def test_an_encrypted_key_passes(text: str) -> None:
    assert rules.api_key_secret(text) == ""


@pytest.mark.parametrize("rule", [rules.image_by_digest, rules.container_not_privileged, rules.api_key_set])
def test_what_is_not_known_yet_is_judged_later(rule: Any) -> None:
    assert rule(serving(image=UNKNOWN_STRING_VALUE, vars=UNKNOWN_STRING_VALUE, api_key=UNKNOWN_STRING_VALUE)) == ""
    assert rule(serving(vars={"vllm_image": UNKNOWN_STRING_VALUE, "vllm_privileged": UNKNOWN_STRING_VALUE})) == ""


def test_every_refusal_names_its_remedy() -> None:
    bad = [
        rules.image_by_digest(serving(image="glm")),
        rules.container_not_privileged(serving(vars={"vllm_privileged": True})),
        rules.api_key_set(serving(api_key="")),
        rules.api_key_secret("config: {'glm-fleet:vllm_api_key': abc}"),
    ]
    assert all("remedy: " in message for message in bad)


def test_every_policy_stops_the_deployment() -> None:
    assert [policy.name for policy in rules.POLICIES] == [
        "image-by-digest",
        "container-not-privileged",
        "api-key-set-and-secret",
    ]
    assert {policy.enforcement_level for policy in rules.POLICIES} == {EnforcementLevel.MANDATORY}
