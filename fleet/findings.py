"""The types that all checks share: a rule, its findings, and a waiver that lets a stack continue despite one.

Used by the rules of a stack file (fleet.stack.rules), the preflight (fleet.preflight) and the policies. Pure; imports only the standard library.
"""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Level = Literal["error", "warning"]  # an error stops a run, a warning is only shown


@dataclass(frozen=True)
class Finding:
    """One finding of a rule or check: what it saw, what it wanted, what to do next; `reason` if it differs from the rule's."""

    seen: str
    wanted: str = ""
    next: str = ""
    reason: str = ""


SubjectT = TypeVar("SubjectT")
FindingT = TypeVar("FindingT", bound=Finding)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[SubjectT, FindingT]):
    """One rule: `holds` is its statement, `reason` why it exists, `source` the evidence; `check` yields what breaks it."""

    name: str
    holds: str
    reason: str
    source: str
    check: Callable[[SubjectT], Iterator[FindingT]]
    level: Level = "error"


@dataclass(frozen=True)
class Waiver:
    """The reason why a rule does not stop a stack, and the last day of that exception."""

    reason: str
    expires: datetime.date

    def in_force(self, today: datetime.date) -> bool:
        """Whether the waiver counts: until its last day, inclusive."""
        return self.expires >= today

    def sentence(self, today: datetime.date) -> str:
        """Return the sentence about this waiver in a message."""
        if self.in_force(today):
            return f"waived until {self.expires}: {self.reason}"
        return f"its waiver expired on {self.expires} and does not count"


def today() -> datetime.date:
    """Return the day in UTC, by which waivers end."""
    return datetime.datetime.now(tz=datetime.UTC).date()


def weigh(level: Level, waiver: Waiver | None, today: datetime.date) -> tuple[Level, str]:
    """Return the level after a waiver, and the line to add to a finding's `seen` ("" without a waiver)."""
    if waiver is None:
        return level, ""
    return "warning" if waiver.in_force(today) else level, f"\n({waiver.sentence(today)})"
