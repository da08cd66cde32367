"""The tree of errors: every failure that this project reports to a user. Needs printable only; used by every room.

    FleetError              node: doing: seen / wanted / next
    ├── SettingsError       a stack file contains a mistake; no machine was touched
    ├── Unreachable         no SSH connection in time
    │   ├── HostKeyMismatch another machine answers than the pinned one
    │   └── LoginRefused    the right machine, but it accepts none of our keys
    ├── NotReady            a machine fails the preflight; nothing on it was touched
    ├── NotApproved         a change is another one than the approved report, or its signature is wrong
    ├── CommandFailed       a command on a node failed
    ├── ConvergeFailed      an Ansible run stopped at a task
    │   └── Cancelled       the user, or the end of the Pulumi engine, stopped a run
    ├── BmcFailed           a BMC answers with an error
    │   └── BmcSilent       a BMC does not answer in time; it may be restarting
    ├── InstallFailed       an installation did not finish
    ├── OutputMalformed     a node sent an output of the wrong form
    ├── ClusterUnreachable  the API server of a Kubernetes cluster does not answer, or nothing says how to reach it
    ├── ClusterRefused      the API server answers with an error
    ├── RolloutFailed       the pods of a model do not get ready
    ├── ProbeFailed         the vLLM server answers, and its answers are wrong
    ├── Unexpected          an exception that we did not expect: our bug
    └── DriftUnreadable     the state of a node could not be read

A message has what was seen, and never repeats the text of its cause. Parts may come from a node or a server: the message shows their
control characters as escapes.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from fleet import printable


class FleetError(Exception):
    """A failure for its user: the node, what was being done, what was seen and wanted, what to do next.

    Only `seen` is required; the text leaves out absent parts. Lines after the first of a part are indented.
    `partial` is what a run declared before it failed (managed_set.Declared as JSON); empty for all else.
    """

    partial: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *, seen: str, node: str = "", doing: str = "", wanted: str = "", next: str = "") -> None:
        super().__init__(seen)
        self.seen, self.node, self.doing, self.wanted, self.next = seen, node, doing, wanted, next

    def __str__(self) -> str:
        parts = (printable.plain(self.node), printable.plain(self.doing), _indented(self.seen, 4))
        lines = [": ".join(filter(None, parts))]
        lines += [f"  wanted: {_indented(self.wanted, 10)}"] if self.wanted else []
        lines += [f"  next:   {_indented(self.next, 10)}"] if self.next else []
        return "\n".join(lines)


class SettingsError(FleetError):
    """A mistake in a stack file: `file`, the `key` in it, its `value`, what is `allowed`, the `nearest` right name."""

    def __init__(
        self, *, file: str, key: str, seen: str, value: Any = "", allowed: str = "", nearest: str = "", next: str = ""
    ) -> None:
        prefix = "" if value in ("", None) else f"{json.dumps(value, default=str, ensure_ascii=False)}: "
        super().__init__(
            node=file,
            doing=key,
            seen=prefix + seen,
            wanted=allowed,
            next=next or (f"did you mean {nearest}?" if nearest else ""),
        )
        self.file, self.key, self.value, self.allowed, self.nearest = file, key, value, allowed, nearest


class Unreachable(FleetError):
    """No SSH connection: refused, timed out, no route, or lost."""


class HostKeyMismatch(Unreachable):
    """The machine at this address does not have the pinned host key. Nothing was sent to it."""


class LoginRefused(Unreachable):
    """The machine with the pinned key answers, and accepts none of our keys."""


class NotReady(FleetError):
    """A machine fails the preflight; nothing on it was touched. `others` are further reasons, listed below the first."""

    def __init__(self, *, others: Sequence[FleetError] = (), **parts: str) -> None:
        super().__init__(**parts)
        self.others = tuple(others)

    def __str__(self) -> str:
        more = [f"  and {len(self.others)} more:"] if self.others else []
        return "\n".join([super().__str__(), *more, *(f"    {_indented(str(other), 4)}" for other in self.others)])


class NotApproved(FleetError):
    """A change is not the one of the approved report, or nobody who may has signed that; nothing of it was done."""


class CommandFailed(FleetError):
    """A command on a node ended with a wrong exit code, or not in time."""


class ConvergeFailed(FleetError):
    """An Ansible run stopped at a task."""


class Cancelled(ConvergeFailed):
    """The user, or the end of the Pulumi engine, stopped a run before its end."""


class BmcFailed(FleetError):
    """A BMC answers with an error, or is another one than the stack file names."""


class BmcSilent(BmcFailed):
    """A BMC does not answer in time; it may be restarting."""


class InstallFailed(FleetError):
    """An installation did not finish in time, or failed."""


class OutputMalformed(FleetError):
    """A node sent an output of the wrong form: something else than our scripts runs there."""


class ClusterUnreachable(FleetError):
    """The API server of a cluster does not answer in time, or the kubeconfig does not say how to reach it."""


class ClusterRefused(FleetError):
    """The API server answers with an error: its HTTP `code`, and its `reason` in one word, such as NotFound."""

    def __init__(self, *, code: int = 0, reason: str = "", **parts: str) -> None:
        super().__init__(**parts)
        self.code, self.reason = code, reason


class RolloutFailed(FleetError):
    """The pods of a model do not get ready with a new template."""


class ProbeFailed(FleetError):
    """A replica answers, and its answers are wrong: it does not see the pictures."""


class Unexpected(FleetError):
    """An exception that we did not expect: our bug. Its traceback is in the log that the message names."""


class DriftUnreadable(FleetError):
    """The reader on the node returned no state that can be compared."""


ErrorT = TypeVar("ErrorT", bound=FleetError)


def first(failures: Sequence[ErrorT]) -> ErrorT:
    """Return the first error with all others as its notes, so that one message shows everything to correct."""
    for other in failures[1:]:
        failures[0].add_note(str(other))
    return failures[0]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the candidate that is most similar to `name`, or "" when none is similar."""
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1)), "")


def did_you_mean(name: str, candidates: Iterable[str], otherwise: str = "") -> str:
    """Return the next step after an unknown name: the nearest candidate, else `otherwise`."""
    near = nearest(name, candidates)
    return f"did you mean {near}?" if near else otherwise


def _indented(text: str, by: int) -> str:
    return ("\n" + " " * by).join(printable.plain(text).strip().split("\n"))
