"""Whatever a server sends, a case ends within a second in a result that reports it: hand-written answers on a real socket, and fuzzing."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import probes
from fleet.probes import answer as answers
from fleet.probes import case as cases
from fleet.probes import report, runner
from fleet.probes.runner import ProbeResult

BOX, LIST, STREAM, TOOL = probes.load(["bottle-grounding", "bottles-understanding", "streamed-grounding", "tool-call"])
REFUSES = probes.load(["refuses-no-key"])[0]
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Return a function that answers each connection with these bytes, the last ones again and again until it is closed."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)

    def answer(first: bytes, again: bytes, pause: float) -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                try:
                    read_request(connection)
                    connection.sendall(first)
                    while again and not stop.wait(pause):
                        connection.sendall(again)
                except OSError:
                    continue  # the client has closed

    def start(first: bytes, again: bytes = b"", pause: float = 0) -> str:
        threads.append(threading.Thread(target=answer, args=(first, again, pause)))
        threads[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    listening.close()


def read_request(connection: socket.socket) -> None:
    """Read the whole request: closing earlier would send a reset instead of an answer."""
    with connection.makefile("rb") as request:
        length = 0
        while (line := request.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        request.read(length)


def body(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message}]}).encode()


def pieces(*deltas: Any) -> bytes:
    return b"\n\n".join(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() for delta in deltas)


def listed(numbers: str) -> bytes:
    return body(content=f'[{{"label": "blue bottle", "bbox_2d": [{numbers}]}}]')


HUGE = "9" * 400
HOSTILE = {
    "deep content": (LIST, body(content="[" * 3000 + "]" * 3000), "no JSON list"),
    "deep body": (BOX, b"[" * 100_000, "no JSON; wanted a chat completion"),
    "deep arguments": (TOOL, body(tool_calls=[{"function": {"name": "x", "arguments": '{"a":' * 5000}}]), "calls"),
    "a little too deep": (LIST, body(content=f'[{{"label": {"[" * 40}{"]" * 40}}}]'), "no JSON list"),
    "400 digits": (LIST, listed(f"{HUGE},{HUGE},{HUGE},{HUGE}"), "is no {label, bbox_2d: [4 numbers]}"),
    "5,000 digits": (LIST, listed("9" * 5000), "no JSON list"),
    "400 digits in words": (BOX, body(content=f"[[{HUGE},{HUGE},{HUGE},{HUGE}]]"), "no box"),
    "an exponent": (LIST, listed("1e999,1,1,1"), "is no {label, bbox_2d: [4 numbers]}"),
    "NaN": (LIST, listed("NaN,1,1,1"), "no JSON list"),
    "Infinity": (LIST, listed("-Infinity,1,1,1"), "no JSON list"),
    "truth for numbers": (LIST, listed("true,true,true,true"), "is no {label, bbox_2d: [4 numbers]}"),
    "numeric content": (BOX, body(content=7), "content is a number; wanted text"),
    "true for content": (BOX, body(content=True), "content is true or false; wanted text"),
    "a list for content": (BOX, body(content=[{"type": "text"}]), "content is a list; wanted text"),
    "a list for reasoning": (BOX, body(content="x", reasoning_content=["x"]), "reasoning_content is a list; wanted text"),
    "an object for reasoning": (BOX, body(content="x", reasoning={"a": 1}), "reasoning is an object; wanted text"),
    "text for calls": (TOOL, body(tool_calls="get_weather"), "tool_calls is text; wanted a list"),
    "a call that is a number": (TOOL, body(tool_calls=[1]), "a tool call without its function"),
    "a function without text": (TOOL, body(tool_calls=[{"function": {"name": 1}}]), "name is a number; wanted text"),
    "arguments that are an object": (TOOL, body(tool_calls=[{"function": {"name": "x", "arguments": {}}}]), "arguments is an object; wanted text"),
    "null": (BOX, b"null", "JSON without choices and their message"),
    "choices without end": (BOX, json.dumps({"choices": {"0": 1}}).encode(), "JSON without choices and their message"),
    "long content": (BOX, body(content="[1,2,3,4]" * 20_000), "content has 180000 characters; wanted at most 100000"),
    "endless brackets": (BOX, body(content="[" * 99_000), "no box"),
    "endless white space": (BOX, body(content="[1" + " " * 99_000), "no box"),
    "no UTF-8": (BOX, b"\xff\xfe" * 1000, "no JSON; wanted a chat completion"),
    "control characters": (BOX, body(content="\x1b]0;title\x07\x9b2J\u202e\x00"), "no box"),
    "lone surrogates": (BOX, b'{"choices": [{"message": {"content": "\\ud800"}}]}', "no box"),
    "a piece that is a number": (STREAM, pieces({"content": 7}), "content is a number; wanted text"),
    "a piece that is a list": (STREAM, pieces({"reasoning_content": ["x"]}), "reasoning_content is a list; wanted text"),
    "pieces that are none": (STREAM, pieces(None, 1, "x"), "the stream holds 3 events that are no piece"),
    "a deep piece": (STREAM, b"data: " + b"[" * 100_000, "the stream holds 1 events that are no piece"),
    "an error after a right answer": (
        STREAM, pieces({"content": "[[723,321,"}, {"content": "857,810]]"}) + b'\n\ndata: {"error": "EngineCore died"}', "the stream holds 1 events that are no piece",
    ),
    "a million pieces": (STREAM, pieces({"content": "a"}) + b"\n\ndata: {}" * 300_000, "wanted at most 8192"),
    "a long stream": (STREAM, pieces(*[{"content": "a" * 90_000}] * 3), "content has 270000 characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_reported_as_a_failure_within_a_second(name: str, serve: Callable[..., str]) -> None:
    case, content, sentence = HOSTILE[name]
    url = serve(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    started = time.process_time()
    (result,) = probes.run(url, "key", "m", [case], lambda _: None)
    assert sentence in "; ".join(result.wrong)
    write_reports(result)
    assert time.process_time() - started < 2  # an answer is requested twice


ENDLESS = {
    "a body": (HEAD + b"\r\n", b"x" * 65536, f"more than {runner.BYTES} bytes; the rest was not read"),
    "a stream": (HEAD + b"\r\n", pieces({"content": "x"}) * 1000, "the rest was not read"),
    "a refusal": (b"HTTP/1.1 401 no\r\n\r\n", b"x" * 65536, "the rest was not read"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n", "was not read"),
    "headers": (HEAD, b"X-A: " + b"b" * 60_000 + b"\r\n", "status 0"),
    "a first line": (b"HTTP/1.1 200 ", b"O" * 60_000, "status 0"),
    "informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "status 0"),
    "drops of a body": (HEAD + b"\r\n", b"x", "status 0"),
    "drops of a header": (HEAD, b"X-A: b\r\n", "status 0"),
    "silence": (HEAD + b"Content-Length: 10\r\n\r\n", b"", "status 0"),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("case", [BOX, STREAM, REFUSES], ids=lambda case: case.name)
def test_an_endless_answer_ends_in_a_result(
    name: str, case: cases.Case, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, sentence = ENDLESS[name]
    # Where bytes end the answer, a loaded machine needs time to send them.
    monkeypatch.setattr(runner, "PATIENCE", 0.3 if sentence == "status 0" else 30)
    slow = name.startswith("drops") or name == "informational answers"
    started = time.monotonic()
    (result,) = probes.run(serve(first, again, 0.05 if slow else 0), "key", "m", [case], lambda _: None)
    assert result.refused
    assert sentence in "; ".join(result.wrong)
    assert len(result.answer.shown) <= answers.EXCERPT + 100
    write_reports(result)
    assert time.monotonic() - started < 10  # of a machine that does much else


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://[::bad\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: \xff, zstd\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=\xff\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Expires=\xff; Max-Age=9999999999999999\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
        b"HTTP/1.1 204 None\r\n",
        b"HTTP/1.1 999 Odd\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x01\x02",
    ],
)
def test_a_hostile_header_is_a_result(head: bytes, serve: Callable[..., str]) -> None:
    (result,) = probes.run(serve(head + b"\r\nno answer"), "key", "m", [BOX], lambda _: None)
    assert result.refused
    write_reports(result)


def write_reports(result: ProbeResult, page: bool = True) -> None:
    """Write every report of a result. The page draws its picture, which takes time."""
    for write in (report.table, report.to_json, report.to_junit, *([report.to_html] if page else [])):
        text = write([result])
        assert not [char for char in text if (ord(char) < 32 and char not in "\n\t\r") or 127 <= ord(char) < 160]
        text.encode()
    assert len(result.seen) < 5000


# --- fuzzing, the same each time

WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["[[1,2,3,4]]", "[", "]", "red bottle", "<|begin_of_box|>", "\x9b", "\ud800", "NaN", "1e999"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["label", "bbox_2d", "name", "arguments", "function", "content"]), inner),
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(["content", "reasoning", "reasoning_content", "tool_calls", "role"])
MESSAGES = st.one_of(VALUES, st.dictionaries(KEYS, VALUES))
LISTS = st.lists(st.one_of(VALUES, st.fixed_dictionaries({"label": VALUES, "bbox_2d": VALUES}))).map(json.dumps)


def check(case: cases.Case, status: int, content: bytes) -> None:
    answer = runner.read(status, content, True, case.stream)
    problems = runner.checks.problems(case, answer)
    write_reports(ProbeResult(case, answer, problems, 1.0, (answer, ["as before"])), page=False)


@given(st.sampled_from([BOX, LIST, TOOL, REFUSES]), st.sampled_from([200, 401, 500]), MESSAGES)
def test_any_message_has_a_result(case: cases.Case, status: int, message: Any) -> None:
    check(case, status, json.dumps({"choices": [{"message": message}]}).encode())


@given(LISTS)
def test_any_list_of_detections_has_a_result(content: str) -> None:
    check(LIST, 200, body(content=content))


@given(st.sampled_from([BOX, STREAM]), st.one_of(st.binary(), VALUES.map(lambda value: json.dumps(value).encode())))
def test_any_body_has_a_result(case: cases.Case, content: bytes) -> None:
    check(case, 200, content)


@given(st.lists(st.one_of(MESSAGES, st.dictionaries(KEYS, WORDS)), max_size=5))
def test_any_stream_has_a_result(deltas: list[Any]) -> None:
    check(STREAM, 200, pieces(*deltas))
