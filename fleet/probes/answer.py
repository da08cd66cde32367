"""The answer of a server, and readers for the boxes and the JSON in a model's text.

Pure. GLM-4.6V gives boxes in thousandths (tests/unit/recorded), in one or two pairs of brackets, between box tokens that also
wrap other answers; an answer may begin with a newline. A server may send anything: an answer without vLLM's form becomes text,
with a sentence about its form. Called by runner, checks and report.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.probes.picture import Box

TOKENS = re.compile(r"<\|(?:begin|end)_of_box\|>")
NUMBER = r"(-?\d{1,6}(?:\.\d{1,20})?)"  # a box is in thousandths: a longer number is no part of one
NUMBERS = re.compile(r"\[\s*" + r"\s*,\s*".join([NUMBER] * 4) + r"\s*\]")
# Control characters, and those that change the direction of text: a terminal would obey them, XML forbids them.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Characters of an answer, and levels of its JSON: three times what 4,096 tokens (case.THINKING) can give.
LONGEST, DEEPEST = 100_000, 32
EXCERPT = 10_000  # characters kept of a body that is no answer


class NoAnswer(Exception):
    """A body, or a piece of a stream, without the form of a chat completion; the text names the difference."""


@dataclass(frozen=True)
class Answer:
    """One answer. Of a stream, `order` has the kinds of its pieces as they arrived, `pieces` the number with content.

    `text` is the beginning of a body that is no answer. `strange` is a sentence about a part that no server may send, else "":
    a strange answer fails every case.
    """

    status: int
    content: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    order: Sequence[str] = field(default=())
    pieces: int = 0
    text: str = ""
    strange: str = ""

    @property
    def words(self) -> str:
        """The content without box tokens and the white space around it."""
        return TOKENS.sub("", self.content).strip()

    @property
    def shown(self) -> str:
        """The answer for a person: words, calls, or the body of a refusal; printable."""
        calls = ", ".join(f"{name}({json.dumps(dict(arguments))})" for name, arguments in self.tool_calls)
        reasoning = f"only reasoning: {self.reasoning.strip()}" if self.reasoning else ""
        text = printable(self.words or calls or reasoning or self.text)
        return f"{self.status}: {text}" if self.status != 200 else (text or "nothing")


def printable(text: str) -> str:
    """Return a text with a replacement character for each unprintable one."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def parsed(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError for other text, and for more levels than DEEPEST, which repr cannot show."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _parts(outer)]
        if not level:
            return value
    raise ValueError("too deep")


def from_body(status: int, body: Any) -> Answer:
    """Build an answer from the body of a chat completion. Raises NoAnswer for another form."""
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise NoAnswer("JSON without choices and their message; wanted a chat completion")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise NoAnswer(f"tool_calls is {kind(calls)}; wanted a list")
    return Answer(status, text_of(message, "content"), reasoning_of(message), [_call(call) for call in calls])


def text_of(part: Mapping[str, Any], name: str) -> str:
    """Return a text field of a message or piece, "" for an absent one. Raises NoAnswer for another type or more than LONGEST characters."""
    value = part.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NoAnswer(f"{name} is {kind(value)}; wanted text")
    if len(value) > LONGEST:
        raise NoAnswer(f"{name} has {len(value)} characters; wanted at most {LONGEST}")
    return value


def reasoning_of(part: Mapping[str, Any]) -> str:
    """Return the reasoning of a message or piece, under the new name or the old."""
    new, old = text_of(part, "reasoning"), text_of(part, "reasoning_content")
    return new or old


def kind(value: Any) -> str:
    """Return the type of a JSON value in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def boxes(answer: Answer) -> list[Box]:
    """Return every [left, top, right, bottom] in the words."""
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in NUMBERS.findall(answer.words)]


def json_list(answer: Answer) -> list[Any] | None:
    """Return the outermost JSON list in the words, None without one."""
    words = answer.words
    start, end = words.find("["), words.rfind("]")
    try:
        value = parsed(words[start : end + 1]) if 0 <= start < end else None
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def box_of(value: Any) -> Box | None:
    """Return a JSON value as a box, None unless it is four numbers of at most six digits."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [float(item) for item in value if type(item) in (int, float) and abs(item) < 1_000_000]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def iou(first: Box, second: Box) -> float:
    """Return intersection over union of two boxes, 0 to 1; 0 for a box without area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _parts(value: Any) -> Sequence[Any]:
    """Return the values in an object or a list; none for another value."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_number(name: str) -> Any:
    """Refuse NaN and Infinity: Python's reader accepts them, JSON has neither."""
    raise ValueError(name)


def _call(call: Any) -> tuple[str, Mapping[str, Any]]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise NoAnswer("a tool call without its function")
    name, text = text_of(function, "name"), text_of(function, "arguments")
    try:
        arguments = parsed(text or "{}")
    except ValueError:
        arguments = {"not JSON": text}
    return name, arguments if isinstance(arguments, dict) else {"not an object": arguments}
