"""Claims about the clients that the tests of the endpoint use: what is not a whole answer is a failure, and a pause is a gap."""

import io
import json
from typing import Any, cast

import pytest

from tests.support import load_client


def stream(*events: Any, end: bool = True) -> Any:
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return cast("Any", io.BytesIO(b"".join([*lines, *([b"data: [DONE]\n\n"] if end else [])])))


TOKEN = {"choices": [{"text": "one"}]}
USAGE = {"choices": [], "usage": {"completion_tokens": 2}}


def test_a_whole_stream_is_a_success() -> None:
    load_client.read_stream(stream(TOKEN, TOKEN, USAGE), 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (stream(TOKEN, end=False), "cut: None of 2 tokens, no end"),
        (stream(TOKEN, {**USAGE, "usage": {"completion_tokens": 1}}), "cut: 1 of 2 tokens, an end"),
        (stream(TOKEN, USAGE, end=False), "cut: 2 of 2 tokens, no end"),
        (stream(TOKEN, {"error": {"message": "the replica ended"}}), "in the stream: .*the replica ended"),
    ],
    ids=["cut", "too few tokens", "no end", "an error inside"],
)
def test_a_stream_that_is_not_whole_is_a_failure(answer: Any, message: str) -> None:
    with pytest.raises(load_client.Failed, match=message):
        load_client.read_stream(answer, 2)


def test_the_sums_have_successes_failures_and_the_longest_gap() -> None:
    lines = [
        {"time": 100.0},
        {"kind": "picture", "start": 100.0, "end": 101.0},
        {"kind": "short", "start": 101.0, "end": 104.5},
        {"kind": "long", "start": 104.5, "end": 105.5, "error": "503 no replica"},
        {"kind": "short", "start": 105.5, "end": 106.5},
        {"time": 107.0},
    ]
    sums = load_client.sums(lines)
    assert sums.successes == {"picture": 1, "short": 2} and sums.requests == 4
    assert sums.failures == ["long after 1.0 s: 503 no replica"]
    assert sums.longest_gap == 3.5


def test_the_text_of_the_sums_counts_equal_failures() -> None:
    failures = ["picture after 0.0 s: 503 none", "short after 0.1 s: 502 ended", "picture after 2.5 s: 503 none"]
    assert str(load_client.Sums({"short": 2}, failures, 3.5)) == (
        "5 requests, 3 lost, no answer for 3.5 s\n  2 x picture after N s: 503 none\n  1 x short after N s: 502 ended"
    )


def test_clients_that_never_succeed_have_one_gap_from_beginning_to_end() -> None:
    assert load_client.sums([{"time": 100.0}, {"time": 109.0}]).longest_gap == 9.0
