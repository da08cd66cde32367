"""The last good state of a node's Serving: kept on the node before a change, restored when the change fails, dropped when it is through.

Owns the forms of on_node_snapshot.py's lines. Needs a connection. Called by fleet.provider in a node's turn.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh
from fleet.ssh import reply, script
from fleet.validators import UNITS, Each, Flag, Record, Text

SCRIPT = Path(__file__).with_name("on_node_snapshot.py")
FOLDER = "/var/lib/fleet/last"
SILENCE = 120.0  # seconds without a line: systemd may stop replicas meanwhile
UNIT = Text("a unit's name", UNITS, most=255)


def names(things: Iterable[str]) -> dict[str, list[str]]:
    """Return {files, units} of declared things, "KIND NAME"."""
    split = [thing.split(" ", 1) for thing in things]
    return {f"{kind}s": [name for other, name in split if other == kind] for kind in ("file", "unit")}


@dataclass(frozen=True)
class Taken:
    """Whether a state is kept on the node, and whether an unfinished change has kept it, whose files are on the node."""

    kept: bool
    unfinished: bool


def take(connection: ssh.Connection, things: Iterable[str], replicas: Sequence[Mapping[str, Any]], good: bool) -> Taken:
    """Keep the files among the things, if what the node has is `good` and no unfinished change has kept the state before it.

    Raises CommandFailed.
    """
    arguments = {"do": "take", **names(things), "replicas": list(replicas), "good": good}
    return Taken(**_run(connection, arguments, Record({"kept": Flag(), "unfinished": Flag()})))


def drop(connection: ssh.Connection) -> None:
    """Remove what was kept. Raises CommandFailed."""
    _run(connection, {"do": "drop"}, None)


def restore(
    connection: ssh.Connection,
    things: Iterable[str],
    seconds: float,
    replicas_form: Each,
    note: Callable[[str], None],
    cancelled: threading.Event,
    only: Sequence[str] = (),
    force: bool = False,
) -> list[dict[str, Any]]:
    """Restore the kept files and restart their replicas, or `only` some; `things` are those of the failed change. Return all replicas.

    It restarts replicas where a file differs, and with `force` in any case. Those of `only` are healthy then.
    Raises CommandFailed for replicas that are not healthy within `seconds`, and Cancelled.
    """
    form = Record({"done": Flag(), "starting": Each(UNIT, 64), "failed": Each(UNIT, 64), "replicas": replicas_form})
    restart = [f"{name}.service" for name in only]
    arguments = {"do": "restore", "folder": FOLDER, **names(things), "seconds": seconds}
    arguments |= {"restart": restart, "force": force}
    doing = "go back to what served before"
    try:
        for line in script.script_lines(connection, SCRIPT.read_text(), arguments, SILENCE):
            if cancelled.is_set():
                raise errors.Cancelled(node=connection.target.name, doing=doing, seen="cancelled")
            step = reply.value(line, form)
            if not step["done"]:
                note(f"goes back: waits for {', '.join(step['starting'])}")
            elif step["failed"]:
                raise _failed(
                    connection, doing, f"{', '.join(step['failed'])} did not become healthy", "healthy replicas"
                )
            else:
                replicas: list[dict[str, Any]] = step["replicas"]
                return replicas
    except reply.Unreadable as error:
        raise _failed(connection, doing, error.seen, error.mistake.wanted) from None
    raise _failed(connection, doing, "it ended before that was done", "a last line")


def _run(connection: ssh.Connection, arguments: Mapping[str, Any], form: Record | None) -> Any:
    try:
        return script.run_script(connection, SCRIPT.read_text(), {**arguments, "folder": FOLDER}, form)
    except script.ScriptFailed as failure:
        raise _failed(connection, f"{arguments['do']} its last good state", failure.seen, failure.wanted) from None


def _failed(connection: ssh.Connection, doing: str, seen: str, wanted: str) -> errors.CommandFailed:
    return errors.CommandFailed(
        node=connection.target.name,
        doing=doing,
        seen=seen,
        wanted=wanted or f"a folder {FOLDER} with the last good state",
        next=f"{connection.target.login}, and look at {FOLDER} and at `systemctl status`",
    )
