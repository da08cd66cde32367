"""The words that every check uses: a rule, what it finds, and the waiver by which a stack goes on all the same.

Used by the rules of a stack file (fleet.stack.rules), the preflight (fleet.preflight) and the policies. Pure; imports only the standard library.
"""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Level = Literal["error", "warning"]  # an error stops, a warning is shown


@dataclass(frozen=True)
class Finding:
    """What a rule or a check saw, what it wanted and what to do next; `reason` where it differs from the rule's own."""

    seen: str
    wanted: str = ""
    next: str = ""
    reason: str = ""


SubjectT = TypeVar("SubjectT")
FindingT = TypeVar("FindingT", bound=Finding)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[SubjectT, FindingT]):
    """One rule: `holds` states it in a sentence, `reason` says why, `source` where it comes from; `check` yields what breaks it."""

    name: str
    holds: str
    reason: str
    source: str
    check: Callable[[SubjectT], Iterator[FindingT]]
    level: Level = "error"


@dataclass(frozen=True)
class Waiver:
    """Why a rule does not stop a stack, and the last day of that exception."""

    reason: str
    expires: datetime.date

    def in_force(self, today: datetime.date) -> bool:
        """Whether it counts: until its last day, inclusive."""
        return self.expires >= today

    def sentence(self, today: datetime.date) -> str:
        """Return what every finding says of it."""
        if self.in_force(today):
            return f"waived until {self.expires}: {self.reason}"
        return f"its waiver expired on {self.expires} and does not count"


def weigh(level: Level, waiver: Waiver | None, today: datetime.date) -> tuple[Level, str]:
    """Return the level that counts with a waiver, and the line that a finding's `seen` then ends with; "" without a waiver."""
    if waiver is None:
        return level, ""
    return "warning" if waiver.in_force(today) else level, f"\n({waiver.sentence(today)})"
