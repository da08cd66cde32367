"""The managed set of a host: which things a run declared, what they look like now, what differs from what was expected.

Owns the kinds: file (folders and links too), unit, package, sysctl, user, group; and what follows from them: the container of a
unit that runs `docker run`, the kernel's arguments, the files of a manifest. Needs a connection for reading, nothing else.
Called by `fleet.provider`: collect after a run, read for state and drift. No role registers anything.
"""

import functools
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.machine import form, reply, ssh
from fleet.machine.events import Event

# Values are words, yes/no and lists of words: what passes through Pulumi unchanged.
# {"file /etc/x": {"type": "file", "mode": "0644", …}, "unit a.service": {"state": "active", …}}; {} is an absent thing.
State = dict[str, dict[str, Any]]

KINDS = ("file", "unit", "package", "sysctl", "user", "group")
# What each kind's names may be; the names of a run come from what the node's modules answer.
NAMES = {
    "file": form.PATHS,
    "unit": form.UNITS,
    "package": r"[a-z0-9][a-z0-9+.:*-]*",
    "sysctl": r"[A-Za-z0-9_][A-Za-z0-9_./-]*",
    "user": r"[A-Za-z_][A-Za-z0-9_.-]*",
    "group": r"[A-Za-z_][A-Za-z0-9_.-]*",
}
FOLLOWING = {
    "container": r"[a-zA-Z0-9][a-zA-Z0-9_.-]*",
    "files of": form.PATHS,
    "kernel started for": form.PATHS,
    "options of": form.PATHS,
}
THING = form.Text(
    f"KIND NAME, of {', '.join(NAMES)}, with an absolute path or a plain name",
    "|".join(f"{kind} (?:{name})" for kind, name in NAMES.items()),
    most=1100,
)
NAMED = form.Text(
    THING.wanted, "|".join(f"{kind} (?:{name})" for kind, name in {**NAMES, **FOLLOWING}.items()), most=1100
)
VALUE = form.Text(most=1 << 16, lines=True)
ATTRIBUTE = form.Either((VALUE, form.Flag(), form.Each(VALUE)), "text, true or false, or a list of texts")
# Those that undo.py and fleet.plan.effects read.
KNOWN = dict.fromkeys(("of", "type", "mode", "owner", "group", "version", "at_boot", "unit_file"), VALUE)
LISTS = {"drop_ins": form.Each(VALUE)}
STATE = form.Table(
    NAMED, form.Both(form.Table(form.NAME, ATTRIBUTE), form.Record({}, optional={**KNOWN, **LISTS}, open=True))
)
# What one item of a list is called.
ONE = {
    "drop_ins": "drop-in",
    "groups": "group",
    "arguments": "kernel argument",
    "wrong": "wrong file",
    "environment": "variable",
    "later": "option",
}
# The digest of a file that may hold a secret: remote_read.py keys it with the node's own.
KEYED = "keyed_sha256"
# Seconds without a request after which no more are expected for now: how many there will be only the engine knows.
QUIET = 0.1
# Exit code of the reader when a command on the node gave no answer (remote_read.py), and the seconds after which it is given up itself:
# longer than its own limits for one command and for eight containers.
HANGS, PATIENCE = 75, 120
READER = Path(__file__).with_name("remote_read.py")

_PATH_MODULES = {
    *("copy", "template", "file", "lineinfile", "blockinfile", "replace", "assemble", "get_url", "ini_file"),
    "deb822_repository",
}


@dataclass(frozen=True)
class Declared:
    """Names of managed things, as "KIND NAME"; the value says whether a run of ours made it, so that delete may take it off."""

    things: Mapping[str, bool] = field(default_factory=dict)

    def merge(self, other: "Declared") -> "Declared":
        """Return what either of both declares."""
        names = [*self.things, *(name for name in other.things if name not in self.things)]
        return Declared({name: self.things.get(name, False) or other.things.get(name, False) for name in names})

    def to_json(self) -> dict[str, bool]:
        """Return {"KIND NAME": made by us}."""
        return dict(self.things)

    @classmethod
    def from_json(cls, things: Mapping[str, bool]) -> "Declared":
        """The reverse of to_json."""
        return cls(dict(things))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Declared":
        """Return what must be asked to read this state again; nothing of it counts as made."""
        return cls({what: False for what in state if what.split(" ", 1)[0] in KINDS})


def collect(events: Iterable[Event]) -> Declared:
    """Return what the events of a run declare, changed or not. A task with no_log declares nothing.

    The file of such a task is named by the ansible.builtin.file task that follows it, and counts as made by us: what it was
    before is hidden, and a secret must not stay behind.
    """
    things: dict[str, bool] = {}
    hidden = False
    for event in events:
        res = event.get("res") or {}
        if event["event"] != "ok" or "loop" in res:  # the items of a loop are events of their own
            continue
        module, args = str(event["action"]).rsplit(".", 1)[-1], res.get("args") or {}
        for kind, name in _named(module, res, args):
            made = _made(kind, name, res, args) or (hidden and module == "file" and res.get("state") == "file")
            things[f"{kind} {name}"] = things.get(f"{kind} {name}", False) or made
        hidden = "censored" in res
    return Declared(things)


def _made(kind: str, name: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
    """Whether this result says that the thing was not there (or, of a unit, not on) before."""
    if kind == "package":
        return name.split(":")[0] in (res.get("new") or ())
    if kind == "unit":
        return bool(res.get("changed")) and args.get("state") not in ("restarted", "reloaded", "stopped")
    if kind == "file" and "sysctl_file" in args:
        return bool(res.get("changed")) and name != "/etc/sysctl.conf"
    return bool(res.get("made" if kind == "file" else "changed"))


def read(connection: ssh.Connection, declared: Declared) -> State:
    """Return the actual state of the declared things in one exec; DriftUnreadable when the node gives none."""
    return _only(_read(connection, declared), declared)


def _read(connection: ssh.Connection, declared: Declared, timeout: float = PATIENCE) -> State:
    if not declared.things:
        return {}
    query = json.dumps(sorted(declared.things))
    script = f"{READER.read_text()}\nmain(json.loads({query!r}))\n"
    result = connection.run("/usr/bin/python3 -I -", stdin=script, timeout=timeout)
    if result.rc == HANGS:
        raise _hangs(connection.target, result.stderr)
    try:
        if result.rc:
            raise reply.Unreadable(form.Mistake("", reply.last(result.stderr or result.stdout, result.rc), ""))
        state: State = reply.read(result.stdout, STATE)
    except reply.Unreadable as error:
        raise errors.DriftUnreadable(
            node=connection.target.name,
            doing="read the managed state",
            seen=f"exit code {result.rc}: {error.seen}",
            wanted="python3 (3.10 or later) that runs fleet/machine/remote_read.py as root",
            next=f"{connection.target.login} /usr/bin/python3 --version",
        ) from None
    return state


def _hangs(target: ssh.Target, said: str) -> errors.DriftUnreadable:
    """Return the error for a command on the node that gave no answer; `said` ends with which one, in the reader's words."""
    seen = (said.strip().splitlines() or ["a command gave no answer"])[-1][:200]
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


def drift(expected: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the differences in words: [{what: "file /etc/x", expected: "mode 0644", seen: "mode 0600"}]."""
    # A state that an earlier release wrote knows no options: they are no drift.
    new = [name for name in seen if name not in expected and not name.startswith("options of ")]
    return [
        {"what": what, "expected": right, "seen": wrong}
        for what in [*expected, *new]
        for right, wrong in _differences(expected.get(what) or {}, seen.get(what) or {})
    ]


def _differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not expected and not seen:
        return
    if not expected:
        yield "absent", "present"
    elif not seen:
        yield "present", "absent"
    elif expected.get("type") != seen.get("type"):
        yield f"a {expected.get('type')}", f"a {seen.get('type')}"
    else:
        if "sha256" in expected and KEYED in seen:
            # An earlier release wrote this state with a plain digest: no comparison is possible. The next run of the roles replaces it.
            expected, seen = (
                {key: one[key] for key in one if key not in ("sha256", KEYED)} for one in (expected, seen)
            )
        for key in [*expected, *(name for name in seen if name not in expected)]:
            right, wrong = expected.get(key), seen.get(key)
            if right != wrong:
                yield _said(key, right, wrong), _said(key, wrong, right)


def _said(key: str, value: Any, other: Any) -> str:
    """Return an attribute and its value as words; of a list only what the other one lacks."""
    words = "sha256" if key == KEYED else key.replace("_", " ")
    if isinstance(value, list) or isinstance(other, list):
        extra = [str(item) for item in _items(value) if item not in _items(other)]
        one = ONE.get(key, words)
        return f"{one} {', '.join(extra)}" if extra else f"no such {one}"
    if value is None:
        return f"{words} not set"
    if isinstance(value, bool):
        return words if value else f"not {words}"
    return f"{words} {str(value)[:12] if words == 'sha256' else value}"


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _named(module: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of everything that one result of a module declares."""
    if module in _PATH_MODULES:
        if path := res.get("dest") or res.get("path") or args.get("dest") or args.get("path"):
            yield "file", str(path)
        if res.get("key_filename"):
            yield "file", str(res["key_filename"])
    elif module in ("apt", "package", "dpkg_selections"):
        for key in ("name", "package", "pkg"):
            given = args.get(key) or ()
            for name in given if isinstance(given, list) else [given] if given else ():
                for one in str(name).split(","):
                    yield "package", one.split("=")[0].split("/")[0].strip()
    elif module in ("systemd_service", "systemd", "service"):
        if name := str(args.get("name") or ""):
            yield "unit", name if "." in name else f"{name}.service"
    elif module == "sysctl" and args.get("name"):
        yield "sysctl", str(args["name"])
        yield "file", str(args.get("sysctl_file") or "/etc/sysctl.conf")
    elif module in ("user", "group") and args.get("name"):
        yield module, str(args["name"])
