"""A run's events in words: what happens now, what was changed, what failed, how long each role took.

Owns the texts that a user sees while Ansible works, and the error in which a failed task ends (of a lost node: lost.py).
Needs events only. Called by converge.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fleet import errors, printable
from fleet.ansible import connection_loss
from fleet.ansible.events import Event
from fleet.ssh import Target

# A silent task is told again, with its seconds, this often; and a task that ends sooner than SOON after another was told is
# not told at all: a run has a hundred of them, and where there is no terminal each is a line.
EVERY, SOON = 5.0, 1.0
# Of a failed task's text: a message, not a dump.
LINES, WIDTH = 12, 300
# What Ansible says of a module that was ended before it could answer.
DIED = "Module result deserialization failed"
REBOOT = "ansible.builtin.reboot"


@dataclass(frozen=True)
class Note:
    """One piece of progress; an ephemeral one replaces the one before it."""

    text: str
    ephemeral: bool = True

    def __post_init__(self) -> None:
        """Show control characters as escapes: tasks and polls repeat words of the node."""
        object.__setattr__(self, "text", printable.plain(self.text))


class Story:
    """Hears events in order; `failure` builds the error of the last task that failed, when there is one."""

    def __init__(self, roles: Iterable[str], note: Callable[[Note], None]) -> None:
        self._roles, self._note = frozenset(roles), note
        self._role, self._task, self._since, self._told = "", "", time.monotonic(), time.monotonic()
        self._progress = ""
        self._spoke, self._owed = float("-inf"), False  # when a task was told last; whether the current one was not
        self._seconds: dict[str, float] = {}
        self._failed: list[tuple[str, Event]] = []  # in order; none of our roles goes on after a failure
        self._failed_from = 0.0  # when the task began that failed first
        self.stats: dict[str, Any] = {}
        self.results: dict[str, Any] = {}  # the data of set_stats

    @property
    def current(self) -> str:
        """The task that runs now, as `role: task`."""
        return ": ".join(part for part in (self._role, self._task) if part) or "start Ansible"

    @property
    def failure(self) -> Callable[[Target, str], errors.FleetError] | None:
        """Builds the error from the node and the words for what goes on next; None when no task failed."""
        return self._fail if self._failed else None

    @property
    def unexplained(self) -> float | None:
        """Seconds since the task began that failed first; None where that is a reboot, which tells itself how it ended."""
        first = self._failed[0][1] if self._failed else None
        return time.monotonic() - self._failed_from if first and first["action"] != REBOOT else None

    def seconds(self) -> dict[str, float]:
        """Seconds by role, of those that had tasks."""
        return {role: round(seconds, 1) for role, seconds in self._seconds.items()}

    def hear(self, event: Event) -> None:
        """Take the next event."""
        kind = event["event"]
        if kind in ("task", "stats"):
            now = time.monotonic()
            if self._role:
                self._seconds[self._role] = self._seconds.get(self._role, 0.0) + now - self._since
            self._since = self._told = now
            self._progress = ""
        if kind == "task":
            # A role that another one includes does the other's work.
            if not self._role or not self._roles or event["role"] in self._roles:
                self._role = event["role"]
            self._task = event["task"]
            self._owed = True
            self._tell()
        elif kind == "stats":
            self._role = ""
            self.stats = event
        elif kind == "retry":
            self._retried(event)
        elif kind == "ok" and "results" in event["res"]:
            self._keep(event["res"]["results"], event["res"]["aggregate"])
        elif kind == "ok" and not event["item"] and event["res"].get("changed"):
            many = f" ({event['res']['loop']} items)" if event["res"].get("loop", 0) > 1 else ""
            self._note(Note(f"{self.current}{many}: changed", ephemeral=False))
        elif kind in ("failed", "unreachable") and not event["ignored"]:
            self._failed_from = self._failed_from or self._since
            self._failed.append((self.current, event))

    def tick(self) -> None:
        """Say which task it is, if that was not said yet, and once in a while how long it has taken."""
        self._tell()
        now = time.monotonic()
        if self._task and now - self._told >= EVERY:
            self._told = now
            text = f"{self._role}: {self._progress}" if self._role and self._progress else self.current
            self._note(Note(f"{text} ({now - self._since:.0f} s)"))

    def _tell(self) -> None:
        now = time.monotonic()
        if self._owed and now - self._spoke >= SOON:
            self._owed, self._spoke = False, now
            self._note(Note(self.current))

    def _keep(self, results: dict[str, Any], aggregate: bool) -> None:
        for name, value in results.items():
            before = self.results.get(name)
            if aggregate and isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            self.results[name] = value

    def _retried(self, event: Event) -> None:
        text = str(event["res"].get("said") or "")
        if text and text != self._progress:
            self._progress, self._told = text, time.monotonic()
            role = f"{self._role}: " if self._role else ""
            self._note(Note(f"{role}{text} ({self._told - self._since:.0f} s)"))

    def _fail(self, target: Target, goes_on: str) -> errors.FleetError:
        current, event = self._failed[-1]
        if event["event"] != "unreachable":  # the tasks that a role rescues with only tell what theirs should have met
            current, event = next(
                (one for one in self._failed if DIED in str(one[1]["res"].get("msg"))), (current, event)
            )
        if event["res"].get("loop"):  # the items tell why, their task only that they failed
            current, event = next(
                ((where, one) for where, one in reversed(self._failed) if one["item"] and where == current),
                (current, event),
            )
        if event["event"] == "unreachable":
            return connection_loss.error(target, current, words(event["res"]), goes_on)
        seen, wanted, after = parts(words(event["res"]))
        then = f"{after}\n{goes_on}" if after else goes_on
        return errors.ConvergeFailed(node=target.name, doing=current, seen=seen, wanted=wanted, next=then)


def words(res: dict[str, Any]) -> str:
    """Return what a failed task says of itself: its message, or the end of what its command printed."""
    if "censored" in res:
        return "failed; what it said is hidden, for it handles a secret"
    message = str(res.get("msg") or res.get("reason") or "")
    printed = str(res.get("stderr") or res.get("stdout") or res.get("module_stderr") or res.get("module_stdout") or "")
    if DIED in message:
        return f"its module ended without an answer\n{_end(printed)}".rstrip()
    if printed and ("non-zero return code" in message or not message):
        message = f"exit code {res.get('rc', '?')}\n{_end(printed)}"
    return message or "failed without a word"


def parts(text: str) -> tuple[str, str, str]:
    """Split a role's message into seen, wanted and next, by the lines that begin with `wanted:` and `next:`."""
    found: dict[str, list[str]] = {"seen": [], "wanted": [], "next": []}
    part = "seen"
    for line in text.strip().splitlines():
        for word in ("wanted", "next"):
            if line.strip().startswith(f"{word}:"):
                part, line = word, line.strip().removeprefix(f"{word}:")
        found[part].append(line.strip() if part != "seen" else line.rstrip())
    seen, wanted, after = ("\n".join(lines).strip() for lines in found.values())
    return _end(seen), wanted, after


def _end(text: str) -> str:
    """Keep the first line and the last ones, each at most WIDTH characters."""
    lines = [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in text.strip().splitlines()]
    return "\n".join(lines if len(lines) <= LINES else [lines[0], "…", *lines[-(LINES - 2) :]])
