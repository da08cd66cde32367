"""The checks that a case file names. Each takes the case, the answer and its parameters, and returns a sentence about the fault, or "".

Pure; called by runner and report. A new check is a function here, an entry in CHECKS, and a form in fleet.stack.probe_cases.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from fleet.probes import answer as answers
from fleet.probes import picture
from fleet.probes.answer import Answer
from fleet.probes.case import Case
from fleet.probes.picture import Box

Check = Callable[[Case, Answer, Any], str]
LONGEST = 400  # characters of a sentence: the part of an answer that it quotes may be endless


def problems(case: Case, answer: Answer) -> list[str]:
    """Return a printable sentence for each fault of an answer; none when it is right."""
    faults = (CHECKS[name](case, answer, parameters) for check in case.checks for name, parameters in check.items())
    return [_sentence(fault) for fault in (answer.strange, *faults) if fault]


def truth(case: Case) -> list[tuple[str, Box]]:
    """Return (label, box on the grid) of each object that the case asks for."""
    if case.picture is None:
        return []
    labels = [label for check in case.checks for name, label in check.items() if name == "box"]
    return picture.objects(case.picture, labels[0] if labels else "")


def box(case: Case, answer: Answer, label: str) -> str:
    """Check for one box, around the only object with this label (of a bottle: its colour)."""
    assert case.picture
    (_, right), boxes = picture.objects(case.picture, label)[0], answers.boxes(answer)
    if not boxes:
        return f"no box; wanted {_shown(right)}"
    overlap = answers.iou(boxes[0], right)
    if overlap < case.min_iou:
        noun = picture.noun(case.picture, label)
        return f"box {_shown(boxes[0])} overlaps the {noun} {_shown(right)} by {overlap:.2f}; wanted {case.min_iou:g}"
    return f"{len(boxes)} boxes; wanted one" if len(boxes) > 1 else ""


def bottles(case: Case, answer: Answer, _: bool) -> str:
    """Check for a JSON list that names every bottle once: its colour in `label`, its box in `bbox_2d`."""
    assert case.picture
    items, missing = answers.json_list(answer), picture.objects(case.picture)
    if items is None:
        return "no JSON list; wanted one of {label, bbox_2d}"
    for item in items:
        label, answered = (
            (item.get("label"), answers.box_of(item.get("bbox_2d"))) if isinstance(item, dict) else ("", None)
        )
        if not isinstance(label, str) or answered is None:
            return f"{_short(item)} is no {{label, bbox_2d: [4 numbers]}}"
        colours = [colour for colour in picture.COLOURS if colour in re.findall("[a-z]+", label.lower())]
        if len(colours) != 1:
            return f"{_short(label)} names {' and '.join(colours) or 'no colour'}; wanted one colour"
        alike = [bottle for bottle in missing if bottle[0] == colours[0]]
        if not alike:
            return f"{_short(label)} is not there, or named twice"
        best = max(alike, key=lambda bottle: answers.iou(answered, bottle[1]))
        overlap = answers.iou(answered, best[1])
        if overlap < case.min_iou:
            return f"{_short(label)} overlaps {_shown(best[1])} by {overlap:.2f}; wanted {case.min_iou:g}"
        missing.remove(best)
    return f"not named: {', '.join(colour for colour, _ in missing)}" if missing else ""


def words(case: Case, answer: Answer, phrases: Sequence[str]) -> str:
    """Check for each of these words or phrases; upper and lower case are equal."""
    absent = [phrase for phrase in phrases if phrase.lower() not in answer.words.lower()]
    return f"does not say {absent!r}" if absent else ""


def no_words(case: Case, answer: Answer, unwanted: Sequence[str]) -> str:
    """Check that none of these is in the answer or in the refusal."""
    text = f"{answer.words}\n{answer.text}".lower()
    present = [word for word in unwanted if word.lower() in text]
    return f"says {present!r}" if present else ""


def tool_call(case: Case, answer: Answer, call: dict[str, Any]) -> str:
    """Check for exactly one call, of this function with these arguments."""
    calls = [(name, dict(arguments)) for name, arguments in answer.tool_calls]
    right = (call["name"], call["arguments"])
    return "" if calls == [right] else f"calls {_short(calls) if calls else 'nothing'}; wanted {right}"


def status(case: Case, answer: Answer, codes: list[int]) -> str:
    """Check for one of these status codes."""
    return "" if answer.status in codes else f"status {answer.status}; wanted {' or '.join(map(str, codes))}"


def streamed(case: Case, answer: Answer, pieces: int) -> str:
    """Check for content in at least so many pieces, after any reasoning and not among it. White space is no piece."""
    if answer.pieces < pieces:
        return f"content in {answer.pieces} pieces; wanted at least {pieces}"
    right = list(answer.order) in (["content"], ["reasoning", "content"])
    return "" if right else f"pieces came as {', '.join(answer.order)}"


def reasoning_apart(case: Case, answer: Answer, _: bool) -> str:
    """Check for reasoning in its own field, and no think tag in the content."""
    if not answer.reasoning.strip():
        return "no reasoning; wanted some in its own field"
    return "the content holds a think tag" if "think>" in answer.content else ""


CHECKS: dict[str, Check] = {
    check.__name__: check for check in (box, bottles, words, no_words, tool_call, status, streamed, reasoning_apart)
}


def _shown(numbers: Box) -> str:
    return "[" + ", ".join(f"{number:.0f}" for number in numbers) + "]"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 160 else f"{shown[:159]}…"


def _sentence(fault: str) -> str:
    fault = answers.printable(fault)
    return fault if len(fault) <= LONGEST else f"{fault[: LONGEST - 1]}…"
