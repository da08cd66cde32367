"""Read what a host has of its managed set, in one exec of on_node_read.py; concurrent calls for one node share it.

Needs a connection. Called by `fleet.provider` after a run and at a refresh.
"""

import functools
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

from fleet import errors, ssh
from fleet.managed.managed_set import STATE, Declared, State
from fleet.ssh.script import ScriptFailed, run_script

# Seconds without a request after which no more are expected for now: how many there will be only the engine knows.
QUIET = 0.1
# Exit code of the reader when a command on the node gave no answer (on_node_read.py), and the seconds after which it is given up itself:
# longer than its own limits for one command and for eight containers.
HANGS, PATIENCE = 75, 120
READER = Path(__file__).with_name("on_node_read.py")


def read(connection: ssh.Connection, declared: Declared) -> State:
    """Return the actual state of the declared things in one exec; DriftUnreadable when the node gives none."""
    return _only(_read(connection, declared), declared)


def _read(connection: ssh.Connection, declared: Declared, timeout: float = PATIENCE) -> State:
    if not declared.things:
        return {}
    try:
        state: State = run_script(connection, READER.read_text(), sorted(declared.things), STATE, timeout)
    except ScriptFailed as failure:
        if failure.rc == HANGS:
            raise _hangs(connection.target, failure.seen[:200]) from None
        raise errors.DriftUnreadable(
            node=connection.target.name,
            doing="read the managed state",
            seen=f"exit code {failure.rc}: {failure.seen}",
            wanted="python3 (3.10 or later) that runs fleet/managed/on_node_read.py as root",
            next=f"{connection.target.login} /usr/bin/python3 --version",
        ) from None
    return state


def _hangs(target: ssh.Target, seen: str) -> errors.DriftUnreadable:
    """Return the error for a command on the node that gave no answer; `seen` names the command, in the words of on_node_read.py."""
    docker = "`docker " in seen
    first = f"{target.login} systemctl restart docker; where that hangs, too, " if docker else ""
    return errors.DriftUnreadable(
        node=target.name,
        doing="read the managed state",
        seen=f"{seen}: the Docker daemon hangs" if docker else seen,
        wanted="a Docker daemon that answers" if docker else "a node whose commands answer",
        next=f"{first}reboot {target.name}; then `pulumi up` goes on where this stopped",
    )


def read_many(target: ssh.Target, declared: Sequence[Declared], timeout: float = 15) -> list[State]:
    """Return the state of each, connecting within `timeout` seconds; concurrent calls for one node share one exec.

    A group commit: the first caller connects, whoever asks until the connection stands joins, and one read answers all. While
    requests for any node still come in, as of a large fleet, the group waits for those that may be its own.
    Raises Unreachable, HostKeyMismatch or DriftUnreadable, to every caller of the group.
    """
    global _latest
    with _lock:
        _latest = time.monotonic()
        group = _open.get(target)
        leads = group is None
        if group is None:
            group = _open[target] = _Group()
        group.declared += declared
    if leads:
        try:
            _quiet()  # handshakes cost time, in which requests would only trickle in
            with ssh.connect(target, timeout) as connection:
                _quiet()
                _close(target, group)
                union = functools.reduce(Declared.merge, group.declared, Declared())
                group.answer.set_result(_read(connection, union))
        except errors.FleetError as error:
            group.answer.set_exception(error)
        finally:
            _close(target, group)
            group.answer.cancel()  # without effect once there is an answer
    state = group.answer.result()
    return [_only(state, one) for one in declared]


class _Group:
    """Requests for one node that one read will answer."""

    def __init__(self) -> None:
        self.declared: list[Declared] = []
        self.answer: futures.Future[State] = futures.Future()


_open: dict[ssh.Target, _Group] = {}
_latest = 0.0  # when the newest request came, by the monotonic clock
_lock = threading.Lock()


def _quiet() -> None:
    """Wait until no request has come for a moment."""
    while (left := _latest + QUIET - time.monotonic()) > 0:
        time.sleep(left)


def _close(target: ssh.Target, group: _Group) -> None:
    """Let no further request join; later ones begin a group of their own."""
    with _lock:
        if _open.get(target) is group:
            del _open[target]


def _only(state: State, declared: Declared) -> State:
    """Return the part of a state that belongs to `declared`: its things and what follows from them."""
    return {
        what: {key: value for key, value in seen.items() if key != "of"}
        for what, seen in state.items()
        if what in declared.things or seen.get("of") in declared.things
    }
