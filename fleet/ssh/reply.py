"""The one reader of what a script of ours printed on a node: its last line, as JSON of bounded size and depth, in safe text, of a given form.

A node may print anything: a line of a .bashrc before ours, another type, deep nesting, huge numbers, control characters. Pure. Called by
script.py, and by each other reader of a node's JSON.
"""

import json
import math
from typing import Any

from fleet import errors, printable
from fleet.validators import Form, Mistake

DEPTH = 12  # ours are 4 deep
NUMBER = 1 << 63


class Unreadable(ValueError):
    """A reply that is not what our script prints: `mistake` says where and why."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.seen)
        self.mistake = mistake

    @property
    def seen(self) -> str:
        """What was seen, with its place."""
        return f"{self.mistake.at}: {self.mistake.seen}" if self.mistake.at else self.mistake.seen


def read(said: str, form: Form) -> Any:
    """Return the value of the last line that is not empty, with all text in it plain. Raises Unreadable."""
    lines = said.strip().rsplit("\n", 1)
    return value(lines[-1], form)


def value(line: str, form: Form) -> Any:
    """Return the value of one line of JSON, with all text in it plain. Raises Unreadable."""
    if not line.strip():
        raise Unreadable(Mistake("", "nothing printed", "one line of JSON"))
    try:
        found = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Unreadable(Mistake("", f"no JSON: {printable.short(line)}", "one line of JSON")) from None
    return taken(found, form)


def taken(found: Any, form: Form) -> Any:
    """Return a value that was read elsewhere, as the results of a run are, with all text in it plain. Raises Unreadable."""
    safe = _safe(found, DEPTH)
    if mistake := form.mistake(safe, ""):
        raise Unreadable(mistake)
    return safe


def last(said: str, rc: int) -> str:
    """Return the last line of what a command said on stderr, or its exit code: what a message shows of one that failed."""
    return (said.strip().splitlines() or [f"exit code {rc}"])[-1]


def failed(error: Unreadable, node: str, doing: str, next: str) -> errors.CommandFailed:
    """Return the error for a node whose reply cannot be read."""
    return errors.CommandFailed(node=node, doing=doing, seen=error.seen, wanted=error.mistake.wanted, next=next)


def _no_number(name: str) -> float:
    raise ValueError(name)


def _safe(found: Any, left: int) -> Any:
    """Return a value with all text in it plain; Unreadable where it is too deep, or a number is too large."""
    if not left:
        raise Unreadable(Mistake("", "it is nested deeper than anything of ours", f"at most {DEPTH} levels"))
    if isinstance(found, str):
        return printable.plain(found)
    if isinstance(found, list):
        return [_safe(one, left - 1) for one in found]
    if isinstance(found, dict):
        return {printable.plain(name): _safe(one, left - 1) for name, one in found.items()}
    if isinstance(found, float) and not math.isfinite(found):
        raise Unreadable(Mistake("", "a number without end", "numbers that are finite"))
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) >= NUMBER:
        raise Unreadable(Mistake("", "a huge number", f"numbers below {NUMBER}"))
    return found
