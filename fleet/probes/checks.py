"""The checks that a case file names. Each takes the case, the answer and its parameters, and returns what is wrong, or "".

Pure. A new check is a function here with its name in CHECKS. Called by runner.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fleet.probes import answer as answers
from fleet.probes import picture
from fleet.probes.answer import Answer
from fleet.probes.case import Case
from fleet.probes.picture import Box

Check = Callable[[Case, Answer, Any], str]


def judge(case: Case, answer: Answer) -> list[str]:
    """Return what is wrong with an answer, a sentence each; empty when it is right."""
    found = (CHECKS[name](case, answer, wanted) for check in case.checks for name, wanted in check.items())
    return [wrong for wrong in found if wrong]


def truth(case: Case) -> list[tuple[str, Box]]:
    """Return (label, box on the grid) of everything that the case asks for."""
    if case.picture is None:
        return []
    asked = [wanted for check in case.checks for name, wanted in check.items() if name == "box"]
    return picture.bottles(case.picture, asked[0]) if asked else picture.bottles(case.picture)


def box(case: Case, answer: Answer, colour: str) -> str:
    """One box, around the only bottle of this colour."""
    assert case.picture
    (_, right), found = picture.bottles(case.picture, colour)[0], answers.boxes(answer)
    if not found:
        return f"no box; wanted {_shown(right)}"
    overlap = answers.iou(found[0], right)
    if overlap < case.min_iou:
        return f"box {_shown(found[0])} overlaps the {colour} bottle {_shown(right)} by {overlap:.2f}; wanted {case.min_iou:g}"
    return f"{len(found)} boxes; wanted one" if len(found) > 1 else ""


def bottles(case: Case, answer: Answer, _: bool) -> str:
    """A JSON list that names every bottle once, with its colour in `label` and its box in `bbox_2d`."""
    assert case.picture
    found, missing = answers.json_list(answer), picture.bottles(case.picture)
    if found is None:
        return "no JSON list; wanted one of {label, bbox_2d}"
    for item in found:
        if not _is_detection(item):
            return f"{item!r} is no {{label, bbox_2d: [4 numbers]}}"
        like = [one for one in missing if one[0] in item["label"].lower()]
        best = max(like, key=lambda one: answers.iou(tuple(item["bbox_2d"]), one[1]), default=None)
        if best is None:
            return f"{item['label']!r} is not there, or named twice"
        overlap = answers.iou(tuple(item["bbox_2d"]), best[1])
        if overlap < case.min_iou:
            return f"{item['label']!r} overlaps {_shown(best[1])} by {overlap:.2f}; wanted {case.min_iou:g}"
        missing.remove(best)
    return f"not named: {', '.join(colour for colour, _ in missing)}" if missing else ""


def words(case: Case, answer: Answer, wanted: Sequence[str]) -> str:
    """Each of these words or phrases, in any case."""
    absent = [word for word in wanted if word.lower() not in answer.words.lower()]
    return f"does not say {absent!r}" if absent else ""


def no_words(case: Case, answer: Answer, unwanted: Sequence[str]) -> str:
    """None of these."""
    present = [word for word in unwanted if word.lower() in answer.words.lower()]
    return f"says {present!r}" if present else ""


def tool_call(case: Case, answer: Answer, wanted: dict[str, Any]) -> str:
    """Exactly one call, of this function with these arguments."""
    calls = [(name, dict(arguments)) for name, arguments in answer.tool_calls]
    right = (wanted["name"], wanted["arguments"])
    return "" if calls == [right] else f"calls {calls or 'nothing'}; wanted {right}"


def status(case: Case, answer: Answer, wanted: list[int]) -> str:
    """One of these status codes."""
    return "" if answer.status in wanted else f"status {answer.status}; wanted {' or '.join(map(str, wanted))}"


def streamed(case: Case, answer: Answer, pieces: int) -> str:
    """Content in at least so many pieces, after the reasoning and not among it."""
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


def _is_detection(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("label"), str)
        and isinstance(item.get("bbox_2d"), list)
        and len(item["bbox_2d"]) == 4
        and all(isinstance(number, int | float) for number in item["bbox_2d"])
    )


def _shown(numbers: Box) -> str:
    return "[" + ", ".join(f"{number:.0f}" for number in numbers) + "]"
