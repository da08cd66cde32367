"""Whether and how nodes serve, taking a node or a replica out of rotation and putting it back: the controller's side of on_node_drain.py.

Owns the forms of that script's lines. Needs a connection; what a node sends is validated. Called by fleet.provider for turns and by `fleet drain`.
"""

import datetime
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh
from fleet.managed.standing import Standing
from fleet.ssh import reply, script
from fleet.validators import NAME, WORD, Each, Flag, Form, Record, Table, Whole

SCRIPT = Path(__file__).with_name("on_node_drain.py")
# The node proxy as the role gateway sets it up, the units of the role vllm, and our mark.
PATHS = {
    "socket": "/run/fleet-proxy/admin.sock",
    "state": "/var/lib/fleet-proxy/state",
    "proxy": "/etc/fleet/proxy",
    "units": "/etc/systemd/system",
    "mark": "/var/lib/fleet/drain.json",
}
# Who drains.
TURN, OPERATOR = "turn", "operator"
# Seconds without a line from the node after which it hangs, for a connection of the census, and for a census that asks many nodes at once.
SILENCE, CONNECT, CENSUS_AT_ONCE = 20.0, 10.0, 32
# The last second of the year 9999, the latest that can be shown.
MOST_SECONDS = 253_402_300_799

LOOK = {
    "proxy": WORD,
    "draining": Flag(),
    "reached": Flag(),
    "mark": WORD,
    "marks": Table(NAME, WORD, most=64),
    "since": Whole(most=MOST_SECONDS),
    "marks_since": Table(NAME, Whole(most=MOST_SECONDS), most=64),
    "requests": Whole(),
    "in_flight": Whole(),
    "replicas": Table(NAME, Record({"unit": WORD, "proxy": WORD}), most=64),
}
DRAINING = Record({"done": Flag(), "in_flight": Whole(), "silent": Each(NAME, most=1000)})
RETURNING = Record({"done": Flag(), "up": Whole(), "known": Whole(), "drained": Flag()})

Note = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """How a node serves: `proxy` is none, silent or answers; `mark` and `marks` say who drained it and its replicas, `since` when.

    `requests` are those that its proxy has ever had, `in_flight` those that run now. `replicas` has systemd's and the proxy's word for each.
    `reached`: a gateway asks its proxy whether it is ready.
    """

    proxy: str
    draining: bool
    mark: str
    marks: Mapping[str, str]
    since: int
    marks_since: Mapping[str, int]
    requests: int
    in_flight: int
    replicas: Mapping[str, Mapping[str, str]]
    reached: bool

    def healthy(self, replica: str) -> bool:
        """Return whether a replica's unit is active, and the proxy, if it knows the replica, sends requests there."""
        words = self.replicas[replica]
        return words["unit"] == "active" and (not words["proxy"] or words["proxy"].startswith("UP"))

    @property
    def failing(self) -> list[str]:
        """Return the replicas that should serve and are not healthy."""
        return [name for name in self.replicas if self.marks.get(name) != OPERATOR and not self.healthy(name)]

    @property
    def inactive(self) -> list[str]:
        """Return the replicas whose unit is not active."""
        return [name for name, words in self.replicas.items() if words["unit"] != "active"]

    @property
    def drains(self) -> dict[str, str]:
        """Return {replica, or "" for the whole node: by whom it is drained, and since when}."""
        words = {name: _drained(by, self.marks_since.get(name, 0)) for name, by in self.marks.items()}
        if self.mark or self.draining:
            unheeded = self.mark and self.proxy == "answers" and not self.draining
            more = ", and its proxy takes requests all the same" if unheeded else ""
            words[""] = f"{_drained(self.mark or OPERATOR, self.since)}{more}"
        return dict(sorted(words.items()))

    @property
    def standing(self) -> Standing:
        """Return the node's standing; a drain without a mark is an operator's."""
        if not self.replicas:
            return Standing.NOTHING
        if TURN in (self.mark, *self.marks.values()):
            return Standing.UNFINISHED
        if self.mark or self.draining:
            return Standing.DRAINED
        serves = self.proxy != "silent" and any(map(self.healthy, self.replicas))
        if not serves:
            return Standing.BROKEN
        return Standing.SERVES if self.reached else Standing.UNREACHED


@dataclass(frozen=True)
class Drained:
    """The end of a drain: requests that still ran at its bound, gateways that had not asked for the node's state meanwhile."""

    running: int
    silent: tuple[str, ...]


def look(connection: ssh.Connection) -> Look:
    """Return how the node serves now. Raises CommandFailed."""
    try:
        facts = script.run_script(connection, SCRIPT.read_text(), {"do": "look", "paths": PATHS}, Record(LOOK), SILENCE)
    except script.ScriptFailed as failure:
        raise _failed(connection, "ask how it serves", failure.seen, failure.wanted) from None
    return Look(**facts)


def looks(targets: Mapping[str, ssh.Target]) -> dict[str, Look | errors.FleetError]:
    """Return how each node serves, or why it gives no answer, asking all at once."""

    def answer(target: ssh.Target) -> Look | errors.FleetError:
        try:
            with ssh.connect(target, CONNECT) as connection:
                return look(connection)
        except errors.FleetError as error:
            return error

    with futures.ThreadPoolExecutor(CENSUS_AT_ONCE) as pool:
        return dict(zip(targets, pool.map(answer, targets.values()), strict=True))


def census(targets: Mapping[str, ssh.Target | None], note: Note) -> dict[str, Standing]:
    """Return each node's standing; a node without a target, or that gives no answer, is dead. `note` gets the reasons.

    Where no gateway reaches any node, the gateways are at fault, and the nodes count as serving.
    """
    standings = dict.fromkeys(targets, Standing.DEAD)
    for name, answer in looks({name: target for name, target in targets.items() if target}).items():
        if isinstance(answer, Look):
            standings[name] = answer.standing
        else:
            note(f"{name} counts as out of service: {answer.doing}: {answer.seen}")
    if Standing.SERVES not in standings.values():
        unreached = [name for name, standing in standings.items() if standing is Standing.UNREACHED]
        standings.update(dict.fromkeys(unreached, Standing.SERVES))
    return standings


def drain(
    connection: ssh.Connection, by: str, seconds: float, note: Note, cancelled: threading.Event, replica: str = ""
) -> Drained:
    """Take the node or one replica out of rotation and wait at most `seconds` until nothing runs there. Raises Cancelled, CommandFailed."""
    arguments = {"do": "drain", "replica": replica, "by": by, "seconds": seconds}
    for step in _steps(connection, arguments, DRAINING, "drain it", cancelled):
        if step["done"]:
            return Drained(step["in_flight"], tuple(step["silent"]))
        waits = f", {', '.join(step['silent'])} may still send" if step["silent"] else ""
        note(f"drains: {_requests(step['in_flight'])} in flight{waits}")
    raise _failed(connection, "drain it", "it ended before the drain was done", "a last line")


def undrain(connection: ssh.Connection, by: str, cancelled: threading.Event, replica: str = "", key: str = "") -> bool:
    """Put the node or one replica back into rotation. Return False for an operator's drain, which a turn leaves.

    `key` is the one that its replicas now require; "" leaves the proxy's. Raises CommandFailed for a proxy that does not find the replicas, and Cancelled.
    """
    arguments = {"do": "undrain", "replica": replica, "by": by, "key": key}
    for step in _steps(connection, arguments, RETURNING, "put it back into rotation", cancelled):
        if step["done"]:
            if step["drained"]:
                return False
            if step["up"] < step["known"]:
                seen = f"its proxy finds {step['up']} of {step['known']} replicas"
                raise _failed(connection, "put it back into rotation", seen, "replicas that are UP")
            return True
    raise _failed(connection, "put it back into rotation", "it ended before that was done", "a last line")


def watch(connection: ssh.Connection, seconds: float, cancelled: threading.Event) -> Iterator[Look]:
    """Yield how the node serves, about each second, for `seconds`. Raises Cancelled, CommandFailed, Unreachable."""
    form = Record({"done": Flag(), **LOOK})
    for step in _steps(connection, {"do": "watch", "seconds": seconds}, form, "watch it", cancelled):
        yield Look(**{name: value for name, value in step.items() if name != "done"})


def _steps(
    connection: ssh.Connection, arguments: Mapping[str, Any], form: Form, doing: str, cancelled: threading.Event
) -> Iterator[dict[str, Any]]:
    """Yield the lines of the script on the node as it prints them; a cancel closes the connection's channel."""
    lines = script.script_lines(connection, SCRIPT.read_text(), {**arguments, "paths": PATHS}, SILENCE)
    try:
        for line in lines:
            if cancelled.is_set():
                raise errors.Cancelled(node=connection.target.name, doing=doing, seen="cancelled")
            yield reply.value(line, form)
    except reply.Unreadable as error:
        raise _failed(connection, doing, error.seen, error.mistake.wanted) from None


def _failed(connection: ssh.Connection, doing: str, seen: str, wanted: str) -> errors.CommandFailed:
    return errors.CommandFailed(
        node=connection.target.name,
        doing=doing,
        seen=seen,
        wanted=wanted or "a node proxy that answers",
        next=f"{connection.target.login} systemctl status fleet-proxy",
    )


def _drained(by: str, since: int) -> str:
    """Return `drained by operator since 2026-11-29 23:05 UTC`."""
    when = datetime.datetime.fromtimestamp(since, datetime.UTC).strftime(" since %Y-%m-%d %H:%M UTC") if since else ""
    return f"drained by {'operator' if by == OPERATOR else 'an unfinished turn'}{when}"


def _requests(number: int) -> str:
    return f"{number} request{'' if number == 1 else 's'}"
