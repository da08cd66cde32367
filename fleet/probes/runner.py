"""Send cases to a vLLM server, one after the other, and check the answers. Bytes and seconds of an answer are limited.

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
# A streamed answer of 4,096 tokens has one event of about 300 bytes per token. The rest of a longer one is not read.
BYTES, EVENTS = 4 * 2**20, 2 * THINKING


@dataclass(frozen=True)
class ProbeResult:
    """A case, its answer and the seconds it took. `wrong` has a sentence for each fault of the answer.

    `earlier` is the first answer of a case that was sent a second time, with its faults.
    """

    case: Case
    answer: Answer
    wrong: Sequence[str]
    seconds: float
    earlier: tuple[Answer, Sequence[str]] | None = None

    @property
    def passed(self) -> bool:
        """Whether the answer has no fault."""
        return not self.wrong

    @property
    def gates(self) -> bool:
        """Whether a wrong answer makes the replica not ready."""
        return not self.case.advisory

    @property
    def refused(self) -> bool:
        """Whether this answer makes the replica not ready."""
        return self.gates and not self.passed

    @property
    def seen(self) -> str:
        """The answer and its faults in one line; both answers of a case that was sent twice."""
        last = _line(self.answer, self.wrong)
        if self.earlier is None:
            return last
        first = _line(*self.earlier)
        return f"twice {last}" if first == last else f"{last}; at first {first}"


def run(url: str, key: str, model: str, cases: Sequence[Case], note: Callable[[str], None]) -> list[ProbeResult]:
    """Send every case to `url` (without /v1) and return a result for each; `note` gets a line of progress per case.

    A model that answers wrongly gets the case once more. A case that the server must refuse, an answer that is missing or strange, and
    a broken connection (status 0) get their result at once.
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
    """Send one case and return the answer: status 0 after a broken connection, or after PATIENCE seconds."""
    headers = {"Authorization": f"Bearer {key}"} if case.authorized else {}
    try:
        # A private loop: asyncio.run would remove the thread's loop, which Pulumi's SDK may need.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            status, body, whole = runner.run(_fetch(url, case.body(model), headers))
    except httpx.HTTPError as error:
        return Answer(0, text=f"no answer: {type(error).__name__}: {error}")
    except TimeoutError:
        return Answer(0, text=f"no answer: no end within {PATIENCE:g} s")
    return read(status, body, whole, case.stream)


def read(status: int, body: bytes, whole: bool, stream: bool) -> Answer:
    """Read a body, `whole` or cut off at BYTES, as one answer or as a stream of pieces. The body may hold anything."""
    text = body.decode(errors="replace")
    if not whole:
        return Answer(status, text=text[: answers.EXCERPT], strange=f"more than {BYTES} bytes; the rest was not read")
    try:
        if status == 200 and stream:
            return _streamed(text)
        return answers.from_body(status, _parsed(text))
    except NoAnswer as error:
        return Answer(status, text=text[: answers.EXCERPT], strange=str(error) if status == 200 else "")


async def _fetch(url: str, request: Any, headers: dict[str, str]) -> tuple[int, bytes, bool]:
    """Return status and body of the answer, and whether the body is whole. Raises TimeoutError after PATIENCE seconds."""
    # trust_env=False: a proxy of the environment would get the key, and its 127.0.0.1 is another machine. One connection per request:
    # vLLM closes a connection after an answer 500, and the next request on it may see a reset instead of an answer.
    # aiter_raw: a few compressed bytes could unpack to many.
    plain = {"Accept-Encoding": "identity", **headers}
    body = bytearray()
    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=request, headers=plain) as response,
    ):
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > BYTES:
                return response.status_code, bytes(body[:BYTES]), False
    return response.status_code, bytes(body), True


def _streamed(text: str) -> Answer:
    """Join the pieces of a streamed answer, and record the order of their kinds. Raises NoAnswer for a piece of another form.

    White space is no piece: a model may send a newline before it thinks.
    """
    parts: dict[str, list[str]] = {"reasoning": [], "content": []}
    order: list[str] = []
    other: list[str] = []
    lines = (line.strip() for line in text.split("\n"))
    # ":" begins a comment
    events = [line for line in lines if line not in ("", "data: [DONE]") and not line.startswith(":")]
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
    rest = "\n".join(other)[: answers.EXCERPT]
    for kind in parts:
        answers.text_of(whole, kind)  # raises NoAnswer for an answer that is too long
    pieces = sum(1 for piece in parts["content"] if piece.strip())
    strange = f"the stream holds {len(other)} events that are no piece of an answer" if other else ""
    return Answer(200, whole["content"], whole["reasoning"], order=order, pieces=pieces, text=rest, strange=strange)


def _deltas(event: str) -> list[dict[str, Any]] | None:
    """Return the pieces in one event of a stream; None for another event, such as an error or half a piece."""
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


def _line(answer: Answer, wrong: Sequence[str]) -> str:
    shown = " ".join(answer.shown.split())
    return f"{shown[:160]!r}" + (f" ({'; '.join(wrong)})" if wrong else "")
