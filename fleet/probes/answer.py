"""What a server answered, and reading boxes and JSON out of a model's words.

Pure. The forms were seen on GLM-4.6V (tests/unit/recorded): boxes stand in thousandths, in one or two pairs of brackets,
between box tokens that also wrap other answers; an answer may begin with a newline.
A server may send anything: what has another form than vLLM's is kept as text, with a sentence that says what it is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.probes.picture import Box

TOKENS = re.compile(r"<\|(?:begin|end)_of_box\|>")
NUMBER = r"(-?\d{1,6}(?:\.\d{1,20})?)"  # a box stands in thousandths: what has more digits is none
NUMBERS = re.compile(r"\[\s*" + r"\s*,\s*".join([NUMBER] * 4) + r"\s*\]")
# Control characters, and those that turn the direction of what follows: no terminal, no XML file and no reader shall meet them.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# An answer has at most 4,096 tokens (case.THINKING): this is three times what they can be, in characters and levels of JSON.
LONGEST, DEEPEST = 100_000, 32
KEPT = 10_000  # characters of a body that is no answer


class NoAnswer(Exception):
    """A body, or a piece of a stream, that has not the form of a chat completion; its text says what it has."""


@dataclass(frozen=True)
class Answer:
    """One answer: `order` is in which kinds of pieces a streamed one arrived, `pieces` how many.

    `text` is a body that is no answer, its beginning. `strange` says in a sentence what a server must never send, "" when
    it did not: such an answer fails, whatever is checked.
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
        """What a person should see of it: words, calls, or the body of a refusal; printable."""
        calls = ", ".join(f"{name}({json.dumps(dict(arguments))})" for name, arguments in self.tool_calls)
        said = self.words or calls or (f"only reasoning: {self.reasoning.strip()}" if self.reasoning else self.text)
        said = printable(said)
        return f"{self.status}: {said}" if self.status != 200 else (said or "nothing")


def printable(text: str) -> str:
    """Return a text with a replacement character for each that is not."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def parsed(text: str) -> Any:
    """Return the value of a JSON text. ValueError where it is none, or deeper than any answer: so it can be shown, too."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _parts(one)]
        if not level:
            return value
    raise ValueError("too deep")


def from_body(status: int, body: Any) -> Answer:
    """Read a chat completion. NoAnswer where it is none."""
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
    """Return a text of a message or piece, "" where there is none. NoAnswer where it is something else, or endless."""
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
    """Return what a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def boxes(answer: Answer) -> list[Box]:
    """Return every [left, top, right, bottom] in the words."""
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in NUMBERS.findall(answer.words)]


def json_list(answer: Answer) -> list[Any] | None:
    """Return the outermost JSON list in the words, None when there is none."""
    words = answer.words
    start, end = words.find("["), words.rfind("]")
    try:
        found = parsed(words[start : end + 1]) if 0 <= start < end else None
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def box_of(value: Any) -> Box | None:
    """Return a JSON value as a box, None where it is not four numbers of at most six digits."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [float(one) for one in value if type(one) in (int, float) and abs(one) < 1_000_000]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def iou(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes, 0 to 1; 0 for a box without area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _parts(value: Any) -> Sequence[Any]:
    """Return what a JSON value holds, where it holds anything."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_number(name: str) -> Any:
    """Refuse NaN and Infinity, which Python's reader takes and JSON does not know."""
    raise ValueError(name)


def _call(call: Any) -> tuple[str, Mapping[str, Any]]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise NoAnswer("a tool call without its function")
    name, told = text_of(function, "name"), text_of(function, "arguments")
    try:
        arguments = parsed(told or "{}")
    except ValueError:
        arguments = {"not JSON": told}
    return name, arguments if isinstance(arguments, dict) else {"not an object": arguments}
