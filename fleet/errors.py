"""Every failure that this project tells a user, in one tree; below everything else but printable, which it needs.

    FleetError              node: doing: seen / wanted / next
    ├── SettingsError       a stack file holds what is not allowed (never touched a machine)
    ├── Unreachable         no SSH connection within the time
    │   ├── HostKeyMismatch another machine answers than the one that was pinned
    │   └── LoginRefused    the right machine, but no key of ours that it accepts
    ├── NotReady            a machine cannot become what the plan wants; nothing there was touched
    ├── CommandFailed       a command on a node ended otherwise than it should
    ├── ConvergeFailed      an Ansible run stopped at a task
    │   └── Cancelled       stopped by the user or by the end of the engine
    ├── BmcFailed           a BMC answers, otherwise than it should
    │   └── BmcSilent       no answer of a BMC within the time: it may be starting anew
    ├── InstallFailed       an installation that was begun did not come to its end
    ├── OutputMalformed     an output that a node gave has another form than it should
    ├── ProbeFailed         the server answers, and the answers are wrong
    ├── Unexpected          an exception that nobody foresaw: a bug of ours
    └── DriftUnreadable     the actual state of a node could not be understood

A message says what was seen, not what raised it: it never repeats the text of its cause. Parts may come from a node or a server:
the message shows their control characters as escapes.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fleet import printable


class FleetError(Exception):
    """A failure in the words of its user: where, what was being done, what was seen and wanted, what to do next.

    Only `seen` is required; absent parts are left out of the text. Lines after the first of a part are indented.
    `partial` is what a run had declared before it failed (managed.Declared as JSON; empty for everything else).
    """

    partial: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *, seen: str, node: str = "", doing: str = "", wanted: str = "", next: str = "") -> None:
        super().__init__(seen)
        self.seen, self.node, self.doing, self.wanted, self.next = seen, node, doing, wanted, next

    def __str__(self) -> str:
        lines = [
            ": ".join(
                part
                for part in (printable.plain(self.node), printable.plain(self.doing), _indented(self.seen, 4))
                if part
            )
        ]
        lines += [f"  wanted: {_indented(self.wanted, 10)}"] if self.wanted else []
        lines += [f"  next:   {_indented(self.next, 10)}"] if self.next else []
        return "\n".join(lines)


class SettingsError(FleetError):
    """A stack file says what nothing knows: `file`, the `key` in it, its `value`, what is `allowed`, the `nearest` name."""

    def __init__(
        self, *, file: str, key: str, seen: str, value: Any = "", allowed: str = "", nearest: str = "", next: str = ""
    ) -> None:
        told = "" if value in ("", None) else f"{json.dumps(value, default=str, ensure_ascii=False)}: "
        super().__init__(
            node=file,
            doing=key,
            seen=told + seen,
            wanted=allowed,
            next=next or (f"did you mean {nearest}?" if nearest else ""),
        )
        self.file, self.key, self.value, self.allowed, self.nearest = file, key, value, allowed, nearest


class Unreachable(FleetError):
    """No SSH connection: refused, timed out, no route, or no accepted login."""


class HostKeyMismatch(Unreachable):
    """The machine at this address does not hold the pinned host key. Nothing was sent to it."""


class LoginRefused(Unreachable):
    """The machine with the pinned key answers and takes none of our keys."""


class NotReady(FleetError):
    """A machine cannot become what the plan wants, and nothing there was touched. `others` are further reasons, told below the first."""

    def __init__(self, *, others: Sequence[FleetError] = (), **parts: str) -> None:
        super().__init__(**parts)
        self.others = tuple(others)

    def __str__(self) -> str:
        more = [f"  and {len(self.others)} more:"] if self.others else []
        return "\n".join([super().__str__(), *more, *(f"    {_indented(str(other), 4)}" for other in self.others)])


class CommandFailed(FleetError):
    """A command on a node ended with another exit code than it should, or not in time."""


class ConvergeFailed(FleetError):
    """An Ansible run stopped at a task."""


class Cancelled(ConvergeFailed):
    """A run was stopped from outside, before its end."""


class BmcFailed(FleetError):
    """A BMC answers and does not do what it was asked, or is not the one that it should be."""


class BmcSilent(BmcFailed):
    """No answer of a BMC within the time: it may be starting anew."""


class InstallFailed(FleetError):
    """An installation was begun and did not come to its end within its time, or not as it should."""


class OutputMalformed(FleetError):
    """An output that a node gave has another form than it should: the node runs something else than our scripts."""


class ProbeFailed(FleetError):
    """A replica answers, and its answers are wrong: it does not see."""


class Unexpected(FleetError):
    """An exception that nobody foresaw. Its traceback is in the log that the message names."""


class DriftUnreadable(FleetError):
    """The reader on the node gave no state that can be compared."""


def _indented(text: str, by: int) -> str:
    return ("\n" + " " * by).join(printable.plain(text).strip().split("\n"))
