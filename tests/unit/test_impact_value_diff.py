"""A changed value in words: nobody reads a secret in a preview or a report, and what only sounds like one is shown."""

from typing import Any

import pytest

from fleet.impact import value_diff


@pytest.mark.parametrize(
    ("path", "old", "new", "line"),
    [
        ("vllm_environment.HF_TOKEN", None, "hf_0123", "vllm_environment.HF_TOKEN unset -> (masked)"),
        ("vllm_flags.api-key", "sk-1", "sk-2", "vllm_flags.api-key (masked) -> (masked)"),
        ("vllm_environment", None, {"HF_TOKEN": "hf_0123"}, 'vllm_environment unset -> {"HF_TOKEN": (masked)'),
        ("url", "https://user:word@one", "https://two", "url https://(masked)@one -> https://two"),
        ("vllm_flags.max-num-batched-tokens", 1, 2, "vllm_flags.max-num-batched-tokens 1 -> 2"),
        ("vllm_flags.tokenizer", "a", "b", "vllm_flags.tokenizer a -> b"),
        ("rocm_repository_key", None, "-----BEGIN", "rocm_repository_key unset -> -----BEGIN"),
    ],
)
def test_a_change_of_a_secret_shows_no_value(path: str, old: Any, new: Any, line: str) -> None:
    assert [*value_diff.leaves(path, old, new)] == [line]
