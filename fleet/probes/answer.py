"""What a server answered, and reading boxes and JSON out of a model's words.

Pure. The forms were seen on GLM-4.6V (tests/unit/recorded): boxes stand in thousandths, in one or two pairs of brackets,
between box tokens that also wrap other answers; an answer may begin with a newline.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.probes.picture import Box

TOKENS = re.compile(r"<\|(?:begin|end)_of_box\|>")
NUMBERS = re.compile(r"\[\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]")
# What no XML file, and some of it no file at all, can hold: an untrained model may say such.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Answer:
    """One answer: `order` is in which kinds of pieces a streamed one arrived, `pieces` how many."""

    status: int
    content: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    order: Sequence[str] = field(default=())
    pieces: int = 0
    text: str = ""

    @property
    def words(self) -> str:
        """The content without box tokens and the white space around it."""
        return TOKENS.sub("", self.content).strip()

    @property
    def shown(self) -> str:
        """What a person should see of it: words, calls, or the body of a refusal."""
        calls = ", ".join(f"{name}({json.dumps(dict(arguments))})" for name, arguments in self.tool_calls)
        said = self.words or calls or (f"only reasoning: {self.reasoning.strip()}" if self.reasoning else self.text)
        said = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", said)
        return f"{self.status}: {said}" if self.status != 200 else (said or "nothing")


def from_body(status: int, body: Mapping[str, Any]) -> Answer:
    """Read a chat completion."""
    message = body["choices"][0]["message"]
    calls = [_call(call["function"]) for call in message.get("tool_calls") or ()]
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    return Answer(status, message.get("content") or "", reasoning, calls)


def boxes(answer: Answer) -> list[Box]:
    """Return every [left, top, right, bottom] in the words."""
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in NUMBERS.findall(answer.words)]


def json_list(answer: Answer) -> list[Any] | None:
    """Return the outermost JSON list in the words, None when there is none."""
    start, end = answer.words.find("["), answer.words.rfind("]")
    try:
        found = json.loads(answer.words[start : end + 1]) if 0 <= start < end else None
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def iou(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes, 0 to 1; 0 for a box without area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _call(function: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = {"not JSON": function["arguments"]}
    return function.get("name") or "", arguments if isinstance(arguments, dict) else {"not an object": arguments}
