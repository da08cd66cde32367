"""Puts cases to a server, one after the other, and judges the answers.

Needs httpx, and a base URL that reaches the server (an SSH tunnel; see fleet.machine.ssh). Called by fleet.provider and
fleet.cli.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from fleet.probes import answer as answers
from fleet.probes import checks
from fleet.probes.answer import Answer
from fleet.probes.case import Case

# Seconds for one answer: the real model may think first, and the first picture after a start compiles kernels.
PATIENCE = 300.0


@dataclass(frozen=True)
class Verdict:
    """One judged answer. `wrong` says what is wrong with it, a sentence each; empty means it passed."""

    case: Case
    answer: Answer
    wrong: Sequence[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def seen(self) -> str:
        """What was answered, and what is wrong with it, in one line."""
        shown = " ".join(self.answer.shown.split())
        return f"{shown[:160]!r}" + (f" ({'; '.join(self.wrong)})" if self.wrong else "")


def run(url: str, key: str, model: str, cases: Sequence[Case], note: Callable[[str], None]) -> list[Verdict]:
    """Ask every case at `url` (without /v1); the answers of a broken connection are verdicts too, with status 0."""
    verdicts = []
    # Of the environment nothing: a proxy would be sent the key, and 127.0.0.1 is another machine to it.
    # A connection for each: vLLM closes one after an answer 500, and who asks on it again may see a reset instead of an answer.
    single = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, limits=single) as client:
        for number, case in enumerate(cases, 1):
            note(f"{case.name} ({number} of {len(cases)})")
            started = time.monotonic()
            answer = _ask(client, key, model, case)
            verdicts.append(Verdict(case, answer, checks.judge(case, answer), time.monotonic() - started))
    return verdicts


def _ask(client: httpx.Client, key: str, model: str, case: Case) -> Answer:
    headers = {"Authorization": f"Bearer {key}"} if case.authorized else {}
    try:
        with client.stream("POST", "/v1/chat/completions", json=case.body(model), headers=headers) as response:
            if response.status_code == 200 and case.stream:
                return _streamed(response.iter_lines())
            text = response.read().decode(errors="replace")
    except httpx.HTTPError as error:
        return Answer(0, text=f"no answer: {type(error).__name__}: {error}")
    try:
        return answers.from_body(response.status_code, json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Answer(response.status_code, text=text)


def _streamed(lines: Iterator[str]) -> Answer:
    """Put the pieces of a streamed answer together, and remember in which order their kinds came."""
    parts: dict[str, list[str]] = {"reasoning": [], "content": []}
    order: list[str] = []
    other: list[str] = []
    for line in lines:
        if line in ("", "data: [DONE]"):
            continue
        deltas = _deltas(line)
        other += [line] if deltas is None else []
        for delta in deltas or ():
            for kind in parts:
                piece = delta.get(kind) or (delta.get("reasoning_content") if kind == "reasoning" else "") or ""
                if piece:
                    parts[kind].append(piece)
                    order += [] if order[-1:] == [kind] else [kind]
    content, reasoning = ("".join(parts[kind]) for kind in ("content", "reasoning"))
    return Answer(200, content, reasoning, order=order, pieces=len(parts["content"]), text="\n".join(other))


def _deltas(line: str) -> list[dict[str, Any]] | None:
    """Return the pieces in one line of a stream; None when it holds something else, such as an error or half a piece."""
    try:
        return [dict(choice["delta"]) for choice in json.loads(line.removeprefix("data: "))["choices"]]
    except (ValueError, LookupError, TypeError):
        return None
