"""Puts cases to a server, one after the other, and checks the answers. What a server sends is bounded in bytes and in time.

Needs httpx, and a base URL that reaches the server (an SSH tunnel; see fleet.ssh). Called by fleet.provider and
fleet.cli.probe.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from fleet.probes import answer as answers
from fleet.probes import checks
from fleet.probes.answer import Answer, NoAnswer
from fleet.probes.case import THINKING, Case

# Seconds for one whole answer: the real model may think first, and the first picture after a start compiles kernels.
PATIENCE = 300.0
# A streamed answer of 4,096 tokens is one event of about 300 bytes for each. What is longer is not read.
BYTES, EVENTS = 4 * 2**20, 2 * THINKING


@dataclass(frozen=True)
class ProbeResult:
    """The result of one case: its answer, and how long that took in seconds. `wrong` says what is wrong with it, a sentence each; empty means it passed.

    `earlier` is the first answer of a case that was asked once more, with what was wrong with that.
    """

    case: Case
    answer: Answer
    wrong: Sequence[str]
    seconds: float
    earlier: tuple[Answer, Sequence[str]] | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def gates(self) -> bool:
        """Whether a wrong answer means that the replica is not ready."""
        return not self.case.advisory

    @property
    def refused(self) -> bool:
        """Whether the replica is not ready because of this."""
        return self.gates and not self.passed

    @property
    def seen(self) -> str:
        """What was answered, and what is wrong with it, in one line; of a case that was asked twice, both."""
        now = _seen(self.answer, self.wrong)
        if self.earlier is None:
            return now
        first = _seen(*self.earlier)
        return f"twice {now}" if first == now else f"{now}; at first {first}"


def run(url: str, key: str, model: str, cases: Sequence[Case], note: Callable[[str], None]) -> list[ProbeResult]:
    """Ask every case at `url` (without /v1); the answers of a broken connection are results too, with status 0.

    A model that answers wrongly is asked once more; what must be refused, and a server that gives no answer or a strange one, is not.
    """
    results = []
    for number, case in enumerate(cases, 1):
        place = f"{case.name} ({number} of {len(cases)})"
        note(place)
        started = time.monotonic()
        answer = ask(url, key, model, case)
        wrong, earlier = checks.problems(case, answer), None
        if wrong and case.wants_answer and answer.status == 200 and not answer.strange:
            note(f"{place}, once more: {wrong[0]}")
            earlier = (answer, wrong)
            answer = ask(url, key, model, case)
            wrong = checks.problems(case, answer)
        results.append(ProbeResult(case, answer, wrong, time.monotonic() - started, earlier))
    return results


def ask(url: str, key: str, model: str, case: Case) -> Answer:
    """Ask one case; an answer in any case, with status 0 where the connection broke or PATIENCE was not enough."""
    headers = {"Authorization": f"Bearer {key}"} if case.authorized else {}
    try:
        # A loop of its own that nobody else finds: asyncio.run would take away the thread's, which Pulumi's SDK may need.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            status, body, whole = runner.run(_fetch(url, case.body(model), headers))
    except httpx.HTTPError as error:
        return Answer(0, text=f"no answer: {type(error).__name__}: {error}")
    except TimeoutError:
        return Answer(0, text=f"no answer: no end within {PATIENCE:g} s")
    return read(status, body, whole, case.stream)


def read(status: int, body: bytes, whole: bool, stream: bool) -> Answer:
    """Read the body of an answer, `whole` or cut off at BYTES, as one answer or as a stream of pieces. It may hold anything."""
    text = body.decode(errors="replace")
    if not whole:
        return Answer(status, text=text[: answers.KEPT], strange=f"more than {BYTES} bytes; the rest was not read")
    try:
        if status == 200 and stream:
            return _streamed(text)
        return answers.from_body(status, _parsed(text))
    except NoAnswer as none:
        return Answer(status, text=text[: answers.KEPT], strange=str(none) if status == 200 else "")


async def _fetch(url: str, request: Any, headers: dict[str, str]) -> tuple[int, bytes, bool]:
    """Return status and body of the answer, and whether the body is whole. TimeoutError when it takes longer than PATIENCE."""
    # Of the environment nothing: a proxy would be sent the key, and 127.0.0.1 is another machine to it. A connection for each request:
    # vLLM closes one after an answer 500, and who asks on it again may see a reset instead of an answer.
    # As sent (aiter_raw): a few bytes could unpack to many.
    plain = {"Accept-Encoding": "identity", **headers}
    found = bytearray()
    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=request, headers=plain) as response,
    ):
        async for piece in response.aiter_raw():
            found += piece
            if len(found) > BYTES:
                return response.status_code, bytes(found[:BYTES]), False
    return response.status_code, bytes(found), True


def _streamed(text: str) -> Answer:
    """Put the pieces of a streamed answer together, and remember in which order their kinds came.

    White space between is no piece: a model may begin with a newline before it thinks. NoAnswer where a piece has another form.
    """
    parts: dict[str, list[str]] = {"reasoning": [], "content": []}
    order: list[str] = []
    other: list[str] = []
    lines = (line.strip() for line in text.split("\n"))
    events = [
        line for line in lines if line not in ("", "data: [DONE]") and not line.startswith(":")
    ]  # ":" begins a comment
    if len(events) > EVENTS:
        raise NoAnswer(f"a stream of {len(events)} events; wanted at most {EVENTS}")
    for event in events:
        deltas = _deltas(event)
        other += [event] if deltas is None else []
        for delta in deltas or ():
            for kind, piece in (
                ("reasoning", answers.reasoning_of(delta)),
                ("content", answers.text_of(delta, "content")),
            ):
                parts[kind] += [piece] if piece else []
                order += [kind] if piece.strip() and order[-1:] != [kind] else []
    whole = {kind: "".join(pieces) for kind, pieces in parts.items()}
    told = "\n".join(other)[: answers.KEPT]
    for kind in parts:
        answers.text_of(whole, kind)  # no longer than any answer
    pieces = sum(1 for piece in parts["content"] if piece.strip())
    strange = f"the stream holds {len(other)} events that are no piece of an answer" if other else ""
    return Answer(200, whole["content"], whole["reasoning"], order=order, pieces=pieces, text=told, strange=strange)


def _deltas(event: str) -> list[dict[str, Any]] | None:
    """Return the pieces in one event of a stream; None when it holds something else, such as an error or half a piece."""
    try:
        body = answers.parsed(event.removeprefix("data: "))
    except ValueError:
        return None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        return None
    deltas = (choice.get("delta") if isinstance(choice, dict) else None for choice in choices)
    pieces = [delta for delta in deltas if isinstance(delta, dict)]
    return pieces if len(pieces) == len(choices) else None


def _parsed(text: str) -> Any:
    try:
        return answers.parsed(text)
    except ValueError:
        raise NoAnswer("no JSON; wanted a chat completion") from None


def _seen(answer: Answer, wrong: Sequence[str]) -> str:
    shown = " ".join(answer.shown.split())
    return f"{shown[:160]!r}" + (f" ({'; '.join(wrong)})" if wrong else "")
