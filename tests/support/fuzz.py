"""Answers of the other side: any JSON, a right answer with one corrupt part, noise around it.

Used by tests/unit/test_fuzz_*.py, each of which claims: an error of ours or a result within a second, never anything else.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st


@contextlib.contextmanager
def within(seconds: float = 1.0) -> Iterator[None]:
    """Claim that the block takes so many seconds of this process's time at most."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 80), 1 << 80),
    st.just(10**400),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\x1b]52;c;eA==\x07", "\x00", "\ud800", "\u202e", "{{ lookup('pipe', 'x') }}", "x" * 70_000, "1"]
    ),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NOISE = st.sampled_from(["", "", "welcome\n", '{"motd": 1}\n', "[]\n", "\n\n"])
# Texts that no JSON library writes: truncated, too deep for a parser, not text at all.
WRECKS = st.sampled_from(
    [
        "",
        "null",
        "{",
        "[" * 50_000,
        "[" * 5_000 + "]" * 5_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "1" * 10_000,
        "NaN",
        "\x00\xff",
        "x" * 100_000,
        "[" + "0," * 30_000 + "0]",
    ]
)


def corruptions(right: Any) -> st.SearchStrategy[Any]:
    """Return a right value with one part replaced, removed, or added."""
    choices: list[st.SearchStrategy[Any]] = [ANYTHING]
    if isinstance(right, dict) and right:
        choices.append(
            st.sampled_from(sorted(right)).flatmap(
                lambda name: corruptions(right[name]).map(lambda value: {**right, name: value})
            )
        )
        choices.append(
            st.sampled_from(sorted(right)).map(
                lambda removed: {name: value for name, value in right.items() if name != removed}
            )
        )
        choices.append(st.text(max_size=8).flatmap(lambda name: ANYTHING.map(lambda value: {**right, name: value})))
    if isinstance(right, list) and right:
        choices.append(corruptions(right[0]).map(lambda value: [value, *right[1:]]))
    return st.one_of(choices)


def outputs(right: Any) -> st.SearchStrategy[str]:
    """Return a program's outputs instead of a right answer."""
    value = st.one_of(corruptions(right), corruptions(right), st.just(right)).map(json.dumps)
    return st.one_of(st.tuples(NOISE, value, st.sampled_from(["", "\n", "\nbye\n"])).map("".join), WRECKS)
