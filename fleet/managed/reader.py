"""Read the actual state of a managed set in one exec of on_node_read.py, which concurrent calls for one node share.

Needs a connection. Called by fleet.provider after a run and at a refresh.
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

# Seconds without a new request before a read starts: only the Pulumi engine knows how many will follow.
QUIET = 0.1
# Exit code of on_node_read.py when a command on the node hangs, and its time limit in seconds: longer than its own limits for one command
# and for eight containers.
HANGS, PATIENCE = 75, 120
READER = Path(__file__).with_name("on_node_read.py")


def read(connection: ssh.Connection, declared: Declared) -> State:
    """Return the actual state of the declared things. Raises DriftUnreadable."""
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
            seen=f"{f'exit code {failure.rc}' if failure.rc else 'malformed reply'}: {failure.seen}",
            wanted=failure.wanted or "python3 (3.10 or later) that runs fleet/managed/on_node_read.py as root",
            next=f"{connection.target.login} /usr/bin/python3 --version",
        ) from None
    return state


def _hangs(target: ssh.Target, seen: str) -> errors.DriftUnreadable:
    """Return the error for a command on the node that hangs; `seen` is the line of on_node_read.py, with the command."""
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
    """Return the state of each managed set, connecting within `timeout` seconds; concurrent calls for one node share one exec.

    The first caller opens a group and connects; calls until then join the group, and one read answers all. The group waits as long as
    new requests for any node arrive. Raises Unreachable, HostKeyMismatch or DriftUnreadable to every caller of the group.
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
            _wait_until_quiet()  # before the handshake, whose work would delay the other requests
            with ssh.connect(target, timeout) as connection:
                _wait_until_quiet()
                _close(target, group)
                union = functools.reduce(Declared.merge, group.declared, Declared())
                group.answer.set_result(_read(connection, union))
        except errors.FleetError as error:
            group.answer.set_exception(error)
        finally:
            _close(target, group)
            group.answer.cancel()  # no effect after an answer
    state = group.answer.result()
    return [_only(state, things) for things in declared]


class _Group:
    """Requests for one node that share a read."""

    def __init__(self) -> None:
        self.declared: list[Declared] = []
        self.answer: futures.Future[State] = futures.Future()


_open: dict[ssh.Target, _Group] = {}
_latest = 0.0  # time of the newest request, by the monotonic clock
_lock = threading.Lock()


def _wait_until_quiet() -> None:
    """Wait until no request has arrived for QUIET seconds."""
    while (left := _latest + QUIET - time.monotonic()) > 0:
        time.sleep(left)


def _close(target: ssh.Target, group: _Group) -> None:
    """Close the group to further requests; later ones open a new group."""
    with _lock:
        if _open.get(target) is group:
            del _open[target]


def _only(state: State, declared: Declared) -> State:
    """Return the part of a state that belongs to `declared`: its things, and those derived from them."""
    return {
        name: {key: value for key, value in attributes.items() if key != "of"}
        for name, attributes in state.items()
        if name in declared.things or attributes.get("of") in declared.things
    }
