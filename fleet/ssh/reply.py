"""Read the output of our scripts on a node: its last line as JSON, bounded, without control characters, checked by a form. Pure.

A node may print anything: a line of a .bashrc before ours, another type, deep nesting, huge numbers. Called by script.py and by all other
readers of a node's JSON.
"""

import json
import math
from typing import Any

from fleet import errors, printable
from fleet.validators import Form, Mistake

DEPTH = 12  # levels; our replies have 4
NUMBER = 1 << 63


class Unreadable(ValueError):
    """A reply that our script cannot have printed; `mistake` has the place and the reason."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.seen)
        self.mistake = mistake

    @property
    def seen(self) -> str:
        """Return what was seen, with its place."""
        return f"{self.mistake.at}: {self.mistake.seen}" if self.mistake.at else self.mistake.seen


def read(output: str, form: Form) -> Any:
    """Return the value of the last line that is not empty, without control characters. Raises Unreadable."""
    lines = output.strip().rsplit("\n", 1)
    return value(lines[-1], form)


def value(line: str, form: Form) -> Any:
    """Return the value of one line of JSON, without control characters. Raises Unreadable."""
    if not line.strip():
        raise Unreadable(Mistake("", "nothing printed", "one line of JSON"))
    try:
        parsed = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Unreadable(Mistake("", f"no JSON: {printable.short(line)}", "one line of JSON")) from None
    return check(parsed, form)


def check(value: Any, form: Form) -> Any:
    """Return a parsed value, such as the results of a run, without control characters. Raises Unreadable."""
    safe = _safe(value, DEPTH)
    if mistake := form.mistake(safe, ""):
        raise Unreadable(mistake)
    return safe


def last_line(stderr: str, rc: int) -> str:
    """Return the last line of the stderr of a failed command, or its exit code, for a message."""
    return (stderr.strip().splitlines() or [f"exit code {rc}"])[-1]


def command_failed(error: Unreadable, node: str, doing: str, next: str) -> errors.CommandFailed:
    """Return the error for an unreadable reply of a node."""
    return errors.CommandFailed(node=node, doing=doing, seen=error.seen, wanted=error.mistake.wanted, next=next)


def _no_number(name: str) -> float:
    raise ValueError(name)


def _safe(value: Any, depth: int) -> Any:
    """Return a value without control characters. Raises Unreadable for more than `depth` levels or a too large number."""
    if not depth:
        raise Unreadable(Mistake("", "it is nested too deep", f"at most {DEPTH} levels"))
    if isinstance(value, str):
        return printable.plain(value)
    if isinstance(value, list):
        return [_safe(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {printable.plain(name): _safe(item, depth - 1) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable(Mistake("", "an infinite number", "finite numbers"))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= NUMBER:
        raise Unreadable(Mistake("", "a huge number", f"numbers below {NUMBER}"))
    return value
