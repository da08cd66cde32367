"""The runner against a real HTTP server on the loopback: one with right answers, one with the same answer to all, ones that disconnect."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fleet import probes
from fleet.probes import checks
from tests.support.probe_server import Model, Reply, Server, streamed, whole

KEY, MODEL = "a-key", "zai-org/GLM-4.6V-Flash"
ALL = probes.load()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_cases(server: Server, *names: str) -> list[probes.ProbeResult]:
    return probes.run(server.url, KEY, MODEL, probes.load(names), lambda _: None)


def probe(server: Server, reply: Reply, name: str = "bottle-grounding") -> probes.ProbeResult:
    """Run one case on a server that sends this reply."""
    server.model = lambda body, key: reply
    return run_cases(server, name)[0]


def seeing(body: Mapping[str, Any], key: str) -> Reply:
    """Answer rightly, as GLM-4.6V under vLLM does: find the request among the cases."""
    case = next(case for case in ALL if case.body(MODEL) == body and case.authorized == bool(key))
    if key != f"Bearer {KEY}":
        return Reply(401, b'{"error": "Unauthorized"}')
    if body["model"] != MODEL:
        return whole(404)
    if case.image_url:
        return whole(400)
    if case.tools:
        call = {"function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
        return whole(content="", tool_calls=[call])
    if case.video:
        return whole(content=f"The dot moves from {case.video.removesuffix('.mp4').replace('-', ' ')}.")
    items = [{"label": f"{label} bottle", "bbox_2d": box} for label, box in checks.truth(case)]
    listed = any("bottles" in check for check in case.checks)
    boxes = json.dumps(items if listed else [items[0]["bbox_2d"]])
    words = [f"\nIt is at <|begin_of_box|>{boxes}", "<|end_of_box|>."]
    if case.stream:
        return streamed({"reasoning": "Let me "}, {"reasoning": "look."}, *({"content": word} for word in words))
    return whole(content="".join(words), reasoning="Let me look." if case.thinking else None)


def test_a_server_with_right_answers_and_refusals_passes_every_case(server: Server) -> None:
    server.model = seeing
    results = run_cases(server)
    assert {result.case.name: list(result.wrong) for result in results} == {case.name: [] for case in ALL}
    assert {path for path, _ in server.requests} == {"/v1/chat/completions"}


def test_a_server_with_the_same_answer_to_every_request_passes_no_case(server: Server) -> None:
    server.model = lambda body, key: whole(content="At [[1,2,3,4]], going from left to right, or right to left.")
    assert [result.case.name for result in run_cases(server) if result.passed] == []


def test_progress_names_each_case_before_its_request(server: Server) -> None:
    lines: list[tuple[str, int]] = []
    names = ["bottle-grounding", "tool-call"]
    server.model = seeing
    probes.run(server.url, KEY, MODEL, probes.load(names), lambda text: lines.append((text, len(server.requests))))
    assert lines == [("bottle-grounding (1 of 2)", 0), ("tool-call (2 of 2)", 1)]


def test_a_wrong_answer_fails_with_the_answered_text(server: Server) -> None:
    result = probe(server, whole(content="\nThere is\nno bottle."))
    assert not result.passed
    assert result.seen == "twice 'There is no bottle.' (no box; wanted [89, 298, 223, 786])"


def in_turn(*replies: Reply) -> Model:
    left = iter(replies)
    return lambda body, key: next(left)


RIGHT = whole(content="[[89,298,223,786]]")


def test_a_wrong_answer_is_requested_once_more_and_both_answers_are_kept(server: Server) -> None:
    server.model = in_turn(whole(content="Where?"), RIGHT)
    lines: list[str] = []
    (result,) = probes.run(server.url, KEY, MODEL, probes.load(["bottle-grounding"]), lines.append)
    assert result.passed and result.earlier
    assert result.seen == "'[[89,298,223,786]]'; at first 'Where?' (no box; wanted [89, 298, 223, 786])"
    wrong = "no box; wanted [89, 298, 223, 786]"
    assert lines == ["bottle-grounding (1 of 1)", f"bottle-grounding (1 of 1), once more: {wrong}"]
    assert server.requests[0] == server.requests[1]


def test_a_second_wrong_answer_is_final(server: Server) -> None:
    server.model = in_turn(whole(content="Where?"), whole(content="There."), RIGHT)
    (result,) = run_cases(server, "bottle-grounding")
    assert not result.passed
    assert (result.answer.shown, result.earlier and result.earlier[0].shown) == ("There.", "Where?")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("refuses-no-key", whole(content="Hello!")),
        ("refuses-local-file", Reply(200, b"root:x:0:0")),
        ("bottle-grounding", Reply(500, b"out of memory")),
        ("bottle-grounding", Reply(200, b'{"choices": [{"message": {"content": 7}}]}')),
        ("bottle-grounding", Reply(0, b"")),
    ],
)
def test_a_refusal_and_a_server_without_an_answer_have_one_request(server: Server, name: str, first: Reply) -> None:
    result = probe(server, first, name)
    assert result.refused and result.earlier is None
    assert len(server.requests) == 1


def test_a_wrong_answer_to_an_advisory_case_does_not_gate(server: Server) -> None:
    result = probe(server, whole(content="[[176,84,240,264]]"), "reasoning-apart")
    assert not result.passed and not result.refused


def test_a_refusal_is_shown_with_its_code_and_text(server: Server) -> None:
    result = probe(server, Reply(500, b"out of memory"))
    assert next(iter(result.wrong)) == "status 500; wanted 200"
    assert result.answer.shown == "500: out of memory"


def test_pieces_are_joined_and_counted(server: Server) -> None:
    pieces = [{"reasoning_content": "Hm, "}, {"reasoning": "yes."}, {"content": "a"}, {"content": "b"}]
    answer = probe(server, streamed(*pieces), "streamed-grounding").answer
    assert (answer.reasoning, answer.content, answer.pieces) == ("Hm, yes.", "ab", 2)
    assert list(answer.order) == ["reasoning", "content"]


SPACE, BLUE = {"content": "\n"}, [{"content": "[[723,321,"}, {"content": "857,810]]"}]


@pytest.mark.parametrize(
    ("before", "order"),
    [
        ([SPACE, {"reasoning": "Hm."}, SPACE, {"reasoning": " "}], ["reasoning", "content"]),
        ([SPACE], ["content"]),
    ],
)
def test_white_space_does_not_count_as_a_piece_and_reasoning_may_be_absent(
    server: Server, before: list[dict[str, str]], order: list[str]
) -> None:
    result = probe(server, streamed(*before, *BLUE), "streamed-grounding")
    assert list(result.wrong) == []
    assert (result.answer.pieces, list(result.answer.order)) == (2, order)


def test_a_streamed_answer_with_a_think_tag_in_it_is_wrong(server: Server) -> None:
    reply = streamed({"content": "<think>Hm.</think>"}, *BLUE)
    assert "says ['think>']" in probe(server, reply, "streamed-grounding").wrong


def test_a_comment_in_a_stream_and_a_line_separator_in_a_piece_are_no_events(server: Server) -> None:
    pieces = streamed({"reasoning": "Hm.\u2028"}, *BLUE, {"content": "\u2028"})
    raw = pieces.content.decode().replace("\\u2028", "\u2028")
    assert probe(server, Reply(200, f": ping\n\n{raw}".encode()), "streamed-grounding").passed


def test_content_in_one_piece_is_not_streamed(server: Server) -> None:
    result = probe(server, streamed({"reasoning": "hm"}, {"content": "ab"}), "streamed-grounding")
    assert "content in 1 pieces; wanted at least 2" in result.wrong


def test_an_error_in_the_middle_of_a_stream_is_shown(server: Server) -> None:
    reply = Reply(200, b'data: {"error": {"message": "EngineCore died"}}\n\ndata: [DONE]\n\n')
    assert "EngineCore died" in probe(server, reply, "streamed-grounding").answer.shown


def test_a_run_keeps_the_event_loop_of_the_thread(server: Server) -> None:
    kept: list[bool] = []

    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        run_cases(server, "tool-call")
        kept.append(asyncio.get_event_loop() is loop)
        loop.close()

    thread = threading.Thread(target=run)  # has no other loop that this test would remove
    thread.start()
    thread.join()
    assert kept == [True]


def test_a_server_that_does_not_listen_is_a_result() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    (result,) = probes.run(url, KEY, MODEL, probes.load(["bottle-grounding"]), lambda _: None)
    assert result.answer.status == 0
    assert result.answer.shown.startswith("0: no answer: ConnectError")
    assert result.wrong[0] == "status 0; wanted 200"


@pytest.mark.parametrize("name", ["bottle-grounding", "streamed-grounding", "refuses-no-key"])
@pytest.mark.parametrize(
    "reply", [Reply(0, b""), Reply(200, b'data: {"choices', length=100)], ids=["at once", "in the middle"]
)
def test_a_broken_connection_is_a_result_and_the_next_case_runs(server: Server, name: str, reply: Reply) -> None:
    server.model = lambda body, key: reply
    first, _ = run_cases(server, name, "tool-call")
    assert first.answer.status == 0 and not first.passed
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["bottle-grounding", "streamed-grounding"])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>it works</html>", b"[]", b'{"choices": [{}]}', b'{"choices": [{"message": null}]}'),
        *(b'data: {"choices": [{"del', b'data: {"choices": [{}]}\n\n', b'data: {"choices": [{"delta": null}]}\n\n'),
    ],
)
def test_an_answer_that_is_no_completion_is_a_result(server: Server, name: str, content: bytes) -> None:
    result = probe(server, Reply(200, content), name)
    assert not result.passed
    assert result.answer.shown.strip() == (content.decode().strip() or "nothing")


def test_the_key_goes_to_the_replica_and_through_no_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.model = seeing
    assert run_cases(server, "bottle-grounding")[0].passed
