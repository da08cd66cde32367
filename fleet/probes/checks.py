"""The checks that a case file names. Each takes the case, the answer and its parameters, and returns what is wrong, or "".

Pure. A new check is a function here with its name in CHECKS, and the form of its parameters in fleet.stack.probe_cases. Called by runner.
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
LONGEST = 400  # characters of a sentence: what it repeats of an answer may be endless


def problems(case: Case, answer: Answer) -> list[str]:
    """Return what is wrong with an answer, a printable sentence each; empty when it is right."""
    found = (CHECKS[name](case, answer, wanted) for check in case.checks for name, wanted in check.items())
    return [_sentence(wrong) for wrong in (answer.strange, *found) if wrong]


def truth(case: Case) -> list[tuple[str, Box]]:
    """Return (label, box on the grid) of everything that the case asks for."""
    if case.picture is None:
        return []
    asked = [wanted for check in case.checks for name, wanted in check.items() if name == "box"]
    return picture.objects(case.picture, asked[0]) if asked else picture.objects(case.picture)


def box(case: Case, answer: Answer, label: str) -> str:
    """One box, around the only thing with this label: a bottle's is its colour."""
    assert case.picture
    (_, right), found = picture.objects(case.picture, label)[0], answers.boxes(answer)
    if not found:
        return f"no box; wanted {_shown(right)}"
    overlap = answers.iou(found[0], right)
    if overlap < case.min_iou:
        noun = picture.noun(case.picture, label)
        return f"box {_shown(found[0])} overlaps the {noun} {_shown(right)} by {overlap:.2f}; wanted {case.min_iou:g}"
    return f"{len(found)} boxes; wanted one" if len(found) > 1 else ""


def bottles(case: Case, answer: Answer, _: bool) -> str:
    """A JSON list that names every bottle once, with its colour in `label` and its box in `bbox_2d`."""
    assert case.picture
    found, missing = answers.json_list(answer), picture.objects(case.picture)
    if found is None:
        return "no JSON list; wanted one of {label, bbox_2d}"
    for item in found:
        label, answered = (
            (item.get("label"), answers.box_of(item.get("bbox_2d"))) if isinstance(item, dict) else ("", None)
        )
        if not isinstance(label, str) or answered is None:
            return f"{_short(item)} is no {{label, bbox_2d: [4 numbers]}}"
        colours = [colour for colour in picture.COLOURS if colour in re.findall("[a-z]+", label.lower())]
        if len(colours) != 1:
            return f"{_short(label)} names {' and '.join(colours) or 'no colour'}; wanted one colour"
        like = [one for one in missing if one[0] == colours[0]]
        if not like:
            return f"{_short(label)} is not there, or named twice"
        best = max(like, key=lambda one: answers.iou(answered, one[1]))
        overlap = answers.iou(answered, best[1])
        if overlap < case.min_iou:
            return f"{_short(label)} overlaps {_shown(best[1])} by {overlap:.2f}; wanted {case.min_iou:g}"
        missing.remove(best)
    return f"not named: {', '.join(colour for colour, _ in missing)}" if missing else ""


def words(case: Case, answer: Answer, wanted: Sequence[str]) -> str:
    """Each of these words or phrases, in any case."""
    absent = [word for word in wanted if word.lower() not in answer.words.lower()]
    return f"does not say {absent!r}" if absent else ""


def no_words(case: Case, answer: Answer, unwanted: Sequence[str]) -> str:
    """None of these, in an answer or in a refusal."""
    said = f"{answer.words}\n{answer.text}".lower()
    present = [word for word in unwanted if word.lower() in said]
    return f"says {present!r}" if present else ""


def tool_call(case: Case, answer: Answer, wanted: dict[str, Any]) -> str:
    """Exactly one call, of this function with these arguments."""
    calls = [(name, dict(arguments)) for name, arguments in answer.tool_calls]
    right = (wanted["name"], wanted["arguments"])
    return "" if calls == [right] else f"calls {_short(calls) if calls else 'nothing'}; wanted {right}"


def status(case: Case, answer: Answer, wanted: list[int]) -> str:
    """One of these status codes."""
    return "" if answer.status in wanted else f"status {answer.status}; wanted {' or '.join(map(str, wanted))}"


def streamed(case: Case, answer: Answer, pieces: int) -> str:
    """Content in at least so many pieces, after what reasoning there is and not among it; white space is no piece."""
    if answer.pieces < pieces:
        return f"content in {answer.pieces} pieces; wanted at least {pieces}"
    right = list(answer.order) in (["content"], ["reasoning", "content"])
    return "" if right else f"pieces came as {', '.join(answer.order)}"


def reasoning_apart(case: Case, answer: Answer, _: bool) -> str:
    """Reasoning in its own field, none of it in the content."""
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


def _sentence(wrong: str) -> str:
    wrong = answers.printable(wrong)
    return wrong if len(wrong) <= LONGEST else f"{wrong[: LONGEST - 1]}…"
