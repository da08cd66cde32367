"""The mark of the stack that owns a machine: a file on it, written before any other change, so that no other stack claims it.

Owns the form of the file and the words about another owner. Needs a connection; on_node_owner.py writes and removes the file. Called by
fleet.provider for Node, and by the preflight.
"""

import datetime
import getpass
import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from fleet import errors, ssh, validators
from fleet.managed.on_node_owner import parse, same
from fleet.ssh.script import ScriptFailed, run_script

# In the folder of baseline.py's record. teardown.py keeps this folder, which is not empty; release removes it.
MARKER, RECORD = "/var/lib/fleet/owner.json", "/var/lib/fleet/before.json"
SCRIPT = Path(__file__).with_name("on_node_owner.py")
REPLY = validators.Record({"owner": validators.Text(lines=True), "gone": validators.Flag()})


class Words(TypedDict):
    """Parts of a message about another owner."""

    seen: str
    wanted: str
    next: str


@dataclass(frozen=True)
class Owner:
    """A mark: `id` is [[ORGANIZATION/]PROJECT/]STACK, independent of the backend; `who` USER@HOST, `since` a time in UTC."""

    id: str
    who: str
    since: str

    @classmethod
    def read(cls, text: str) -> "Owner | None":
        """Parse the text of a mark; None if empty. A malformed mark has an owner without a name."""
        fields = parse(text)
        return cls(*(str(fields.get(key, "")) for key in ("id", "who", "since"))) if text else None

    def is_of(self, stack: str) -> bool:
        """Return whether the stack is the owner."""
        return bool(self.id) and same(self.id, stack)


def refusal(owner: Owner, target: ssh.Target, stack: str) -> Words:
    """Return the words about a machine that another stack owns."""
    remove = f"`{target.login} {'sudo ' if target.become else ''}rm {MARKER}`"
    if not owner.id:
        return {
            "seen": f"{MARKER} names no stack",
            "wanted": f"no other owner than {stack}",
            "next": f"find out whose machine it is; if nobody owns it: {remove}",
        }
    return {
        "seen": f"the stack {owner.id} owns it since {owner.since} (set up by {owner.who})",
        "wanted": f"no other owner than {stack}",
        "next": f"`pulumi destroy -s {shlex.quote(owner.id)}`, or `state: absent` there, then `pulumi up`; if that stack no longer exists: {remove}",
    }


def claim(connection: ssh.Connection, id: str) -> None:
    """Mark the machine as the stack's, unless it is already. Raises NotReady for another owner, and CommandFailed."""
    project, stack = ("/" + id).split("/")[-2:]
    now = datetime.datetime.now(tz=datetime.UTC)
    mark = {
        "stack": stack,
        "project": project,
        "id": id,
        "who": f"{_user()}@{socket.gethostname()}",
        "since": f"{now:%Y-%m-%dT%H:%M:%SZ}",
    }
    answer = _run(connection, {"do": "claim", "file": MARKER, "record": RECORD, "owner": mark})
    existing = Owner.read(answer["owner"])
    if existing and not existing.is_of(id):
        words = refusal(existing, connection.target, id)
        raise errors.NotReady(node=connection.target.name, doing="claim it for this stack", **words)


def release(connection: ssh.Connection, id: str) -> Owner | None:
    """Remove the mark if it is the stack's; return another owner. Raises CommandFailed."""
    return Owner.read(_run(connection, {"do": "release", "file": MARKER, "id": id})["owner"])


def _run(connection: ssh.Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the reply of on_node_owner.py: {owner: text of another mark, gone}. Raises CommandFailed."""
    try:
        answer: dict[str, Any] = run_script(connection, SCRIPT.read_text(), arguments, REPLY)
    except ScriptFailed as failure:
        place = Path(MARKER).parent if failure.rc else f"{MARKER} and at what python3 there prints"
        raise errors.CommandFailed(
            node=connection.target.name,
            doing=f"{arguments['do']} it in {MARKER}",
            seen=failure.seen,
            wanted=failure.wanted or "a file there that names the owner",
            next=f"{connection.target.login}, and look at {place}",
        ) from None
    return answer


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user ID without a name, as in a container
        return str(os.getuid())
