"""Turns a run's events into messages: the current task, what changed, what failed, how long each role took.

Owns the text that a user sees while Ansible runs, and the error of a failed task (of a lost node: connection_loss).
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

# Seconds. A running task is reported again, with its duration, every REPEAT; at most one task is reported per INTERVAL: a run has
# a hundred tasks, and without a terminal each is a line.
REPEAT, INTERVAL = 5.0, 1.0
# Lines and characters a line of a failed task's message.
LINES, WIDTH = 12, 300
# Ansible's message for a module that was killed before it answered.
KILLED = "Module result deserialization failed"
REBOOT = "ansible.builtin.reboot"


@dataclass(frozen=True)
class Note:
    """One line of progress; an ephemeral one may be overwritten by the next."""

    text: str
    ephemeral: bool = True

    def __post_init__(self) -> None:
        """Escape control characters: tasks and polls repeat text of the node."""
        object.__setattr__(self, "text", printable.plain(self.text))


class Tracker:
    """Follows the events of one run in order; `failure` builds the error of the last task that failed."""

    def __init__(self, roles: Iterable[str], note: Callable[[Note], None]) -> None:
        self._roles, self._note = frozenset(roles), note
        self._role, self._task = "", ""
        self._task_started = self._last_note = time.monotonic()
        self._progress = ""
        self._last_task_note = float("-inf")
        self._task_pending = False  # the current task was not reported yet
        self._seconds: dict[str, float] = {}
        self._failures: list[tuple[str, Event]] = []  # (task, event) in order; a role that fails does not continue
        self._failed_task_started = 0.0  # of the first failure
        self.stats: dict[str, Any] = {}
        self.results: dict[str, Any] = {}  # the data of set_stats

    @property
    def current(self) -> str:
        """The running task as `role: task`."""
        return ": ".join(part for part in (self._role, self._task) if part) or "start Ansible"

    @property
    def failure(self) -> Callable[[Target, str], errors.FleetError] | None:
        """A function (node, next step) that builds the error; None when no task failed."""
        return self._error if self._failures else None

    @property
    def seconds_since_failed_task(self) -> float | None:
        """Seconds since the first task that failed began; None for none, and for a reboot, whose message says why it failed."""
        first = self._failures[0][1] if self._failures else None
        return time.monotonic() - self._failed_task_started if first and first["action"] != REBOOT else None

    def seconds(self) -> dict[str, float]:
        """Return the seconds by role, of roles that had tasks."""
        return {role: round(seconds, 1) for role, seconds in self._seconds.items()}

    def handle(self, event: Event) -> None:
        """Handle the next event."""
        kind = event["event"]
        if kind in ("task", "stats"):
            now = time.monotonic()
            if self._role:
                self._seconds[self._role] = self._seconds.get(self._role, 0.0) + now - self._task_started
            self._task_started = self._last_note = now
            self._progress = ""
        if kind == "task":
            # The time of an included role counts for the role that includes it.
            if not self._role or not self._roles or event["role"] in self._roles:
                self._role = event["role"]
            self._task = event["task"]
            self._task_pending = True
            self._report_task()
        elif kind == "stats":
            self._role = ""
            self.stats = event
        elif kind == "retry":
            self._report_poll(event)
        elif kind == "ok" and "results" in event["res"]:
            self._store(event["res"]["results"], event["res"]["aggregate"])
        elif kind == "ok" and not event["item"] and event["res"].get("changed"):
            items = f" ({event['res']['loop']} items)" if event["res"].get("loop", 0) > 1 else ""
            self._note(Note(f"{self.current}{items}: changed", ephemeral=False))
        elif kind in ("failed", "unreachable") and not event["ignored"]:
            self._failed_task_started = self._failed_task_started or self._task_started
            self._failures.append((self.current, event))

    def tick(self) -> None:
        """Report the current task if it is still pending, and its duration every REPEAT seconds."""
        self._report_task()
        now = time.monotonic()
        if self._task and now - self._last_note >= REPEAT:
            self._last_note = now
            text = f"{self._role}: {self._progress}" if self._role and self._progress else self.current
            self._note(Note(f"{text} ({now - self._task_started:.0f} s)"))

    def _report_task(self) -> None:
        now = time.monotonic()
        if self._task_pending and now - self._last_task_note >= INTERVAL:
            self._task_pending, self._last_task_note = False, now
            self._note(Note(self.current))

    def _store(self, results: dict[str, Any], aggregate: bool) -> None:
        for name, value in results.items():
            before = self.results.get(name)
            if aggregate and isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            self.results[name] = value

    def _report_poll(self, event: Event) -> None:
        text = str(event["res"].get("said") or "")
        if text and text != self._progress:
            self._progress, self._last_note = text, time.monotonic()
            role = f"{self._role}: " if self._role else ""
            self._note(Note(f"{role}{text} ({self._last_note - self._task_started:.0f} s)"))

    def _error(self, target: Target, next_step: str) -> errors.FleetError:
        task, event = self._failures[-1]
        if event["event"] != "unreachable":  # a killed module is the cause; a failure of the rescue after it is not
            killed = (failure for failure in self._failures if KILLED in str(failure[1]["res"].get("msg")))
            task, event = next(killed, (task, event))
        if event["res"].get("loop"):  # the items have the reason, their task only says that items failed
            items = (failure for failure in reversed(self._failures) if failure[1]["item"] and failure[0] == task)
            task, event = next(items, (task, event))
        if event["event"] == "unreachable":
            return connection_loss.from_ssh(target, task, task_message(event["res"]), next_step)
        seen, wanted, own_next = message_parts(task_message(event["res"]))
        after = f"{own_next}\n{next_step}" if own_next else next_step
        return errors.ConvergeFailed(node=target.name, doing=task, seen=seen, wanted=wanted, next=after)


def task_message(res: dict[str, Any]) -> str:
    """Return the message of a failed task, or the end of what its command printed."""
    if "censored" in res:
        return "failed; what it said is hidden, for it handles a secret"
    message = str(res.get("msg") or res.get("reason") or "")
    printed = str(res.get("stderr") or res.get("stdout") or res.get("module_stderr") or res.get("module_stdout") or "")
    if KILLED in message:
        return f"its module ended without an answer\n{_end(printed)}".rstrip()
    if printed and ("non-zero return code" in message or not message):
        message = f"exit code {res.get('rc', '?')}\n{_end(printed)}"
    return message or "failed without a word"


def message_parts(text: str) -> tuple[str, str, str]:
    """Split a role's message into seen, wanted and next, by the lines that begin with `wanted:` and `next:`."""
    lines_of: dict[str, list[str]] = {"seen": [], "wanted": [], "next": []}
    part = "seen"
    for line in text.strip().splitlines():
        for word in ("wanted", "next"):
            if line.strip().startswith(f"{word}:"):
                part, line = word, line.strip().removeprefix(f"{word}:")
        lines_of[part].append(line.strip() if part != "seen" else line.rstrip())
    seen, wanted, after = ("\n".join(lines).strip() for lines in lines_of.values())
    return _end(seen), wanted, after


def _end(text: str) -> str:
    """Return the first line and the last ones, each cut at WIDTH characters."""
    lines = [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in text.strip().splitlines()]
    return "\n".join(lines if len(lines) <= LINES else [lines[0], "…", *lines[-(LINES - 2) :]])
