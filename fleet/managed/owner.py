"""Which stack owns a machine: a file there that names it, written before anything else is done, so that no other stack takes the machine.

Owns the file, its form and what is told of it; on_node_owner.py writes and removes it there. Needs a connection. Called by fleet.provider for
Node; the preflight reads the same file.
"""

import datetime
import getpass
import json
import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from fleet import errors, ssh, validators
from fleet.managed.on_node_owner import parsed, same
from fleet.ssh import reply

# Beside what baseline.py writes down; teardown.py leaves the folder, as it is not empty, to who removes the marker.
MARKER, RECORD = "/var/lib/fleet/owner.json", "/var/lib/fleet/before.json"
SCRIPT = Path(__file__).with_name("on_node_owner.py")
REPLY = validators.Record({"owner": validators.Text(lines=True), "gone": validators.Flag()})


class Words(TypedDict):
    """The parts of a message that are of this matter alone."""

    seen: str
    wanted: str
    next: str


@dataclass(frozen=True)
class Owner:
    """A marker: `id` is [[ORGANIZATION/]PROJECT/]STACK, the same with every backend; `who` USER@HOST, `since` a time in UTC."""

    id: str
    who: str
    since: str

    @classmethod
    def read(cls, text: str) -> "Owner | None":
        """Read a marker's text; None where there is none. One that names no stack is somebody's all the same."""
        found = parsed(text)
        return cls(*(str(found.get(key, "")) for key in ("id", "who", "since"))) if text else None

    def is_of(self, stack: str) -> bool:
        """Whether the stack is the owner."""
        return bool(self.id) and same(self.id, stack)


def refusal(theirs: Owner, target: ssh.Target, ours: str) -> Words:
    """Return what is told of a machine that another stack owns."""
    remove = f"`{target.login} {'sudo ' if target.become else ''}rm {MARKER}`"
    if not theirs.id:
        return {
            "seen": f"{MARKER} names no stack",
            "wanted": f"no other owner than {ours}",
            "next": f"find out whose machine it is; where it is nobody's: {remove}",
        }
    return {
        "seen": f"the stack {theirs.id} owns it since {theirs.since} (set up by {theirs.who})",
        "wanted": f"no other owner than {ours}",
        "next": f"`pulumi destroy -s {shlex.quote(theirs.id)}`, or `state: absent` there, then `pulumi up`; where that stack is gone: {remove}",
    }


def claim(connection: ssh.Connection, ours: str) -> None:
    """Make the stack the machine's owner, in one exec; it stays so since then. NotReady where another one is, CommandFailed."""
    project, stack = ("/" + ours).split("/")[-2:]
    now = datetime.datetime.now(tz=datetime.UTC)
    owner = {
        "stack": stack,
        "project": project,
        "id": ours,
        "who": f"{_user()}@{socket.gethostname()}",
        "since": f"{now:%Y-%m-%dT%H:%M:%SZ}",
    }
    told = _ask(connection, {"do": "claim", "file": MARKER, "record": RECORD, "owner": owner})
    theirs = Owner.read(told["owner"])
    if theirs and not theirs.is_of(ours):
        words = refusal(theirs, connection.target, ours)
        raise errors.NotReady(node=connection.target.name, doing="take it for this stack", **words)


def release(connection: ssh.Connection, ours: str) -> Owner | None:
    """Take the marker off where it is ours, in one exec; return whose it is where it is not. CommandFailed."""
    return Owner.read(_ask(connection, {"do": "release", "file": MARKER, "id": ours})["owner"])


def _ask(connection: ssh.Connection, asked: dict[str, Any]) -> dict[str, Any]:
    script = f"{SCRIPT.read_text()}\nmain(json.loads({json.dumps(asked)!r}))\n"
    done = connection.run("/usr/bin/python3 -I -", stdin=script)
    if done.rc:
        raise errors.CommandFailed(
            node=connection.target.name,
            doing=f"{asked['do']} it in {MARKER}",
            seen=reply.last(done.stderr, done.rc),
            wanted="a file there that names the stack which owns the machine",
            next=f"{connection.target.login}, and look at {Path(MARKER).parent}",
        )
    try:
        told: dict[str, Any] = reply.read(done.stdout, REPLY)
    except reply.Unreadable as error:
        after = f"{connection.target.login}, and look at {MARKER} and at what python3 there prints"
        raise reply.failed(error, connection.target.name, f"{asked['do']} it in {MARKER}", after) from None
    return told


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        return str(os.getuid())
