"""What the reader on a node tells of a container's environment: of what may be a secret only a digest."""

import hashlib

import pytest

from fleet.machine import remote_read


@pytest.mark.parametrize(
    "name",
    ["VLLM_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "api_key", "hf_token", "my_secret_1", "Password"],
)
def test_a_variable_that_may_be_a_secret_is_told_as_a_digest(name: str) -> None:
    value = "a-value-that-nobody-may-read"
    assert remote_read.shown(f"{name}={value}") == f"{name}={hashlib.sha256(value.encode()).hexdigest()[:12]}"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE=1", "HOME=/run/vllm", "EMPTY="])
def test_any_other_variable_is_told_as_it_is(variable: str) -> None:
    assert remote_read.shown(variable) == variable
