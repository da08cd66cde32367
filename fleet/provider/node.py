"""The resource Node: a machine that answers SSH with its pinned key, is fit for the plan, and is this stack's. Not the machine itself.

Used by the servicer. Needs fleet.ssh (paramiko is imported at the first connection); taking.py looks at the machine and marks it.
"""

import json
from collections.abc import Mapping

from fleet import errors, ssh, validators
from fleet.impact.effects import Effect
from fleet.provider import outputs
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import UNKNOWN, Props
from fleet.ssh import rekey, reply

# Seconds that a machine may take to answer where its source sets no `wait`: a bare-metal MI300X machine that was just
# powered on needs minutes.
BOOT = 900.0
# Why an update of a connection, and of what goes through it, changes nothing that runs.
REACHED = "only how it is reached"
REINSTALLED = "it is installed again"
# `install` says which installation of the machine this is, where its source makes them: with another one nothing is on it.
CONNECTION = ("name", "address", "port", "user", "identity", "host_key", "become", "bastion", "install")
# What tells another machine from the same one that is reached in another way.
PLACE = ("address", "host_key", "install")
# One exec: what runs there, for the table and for messages.
FACTS = """python3 -I -c '
import json, platform
release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
print(json.dumps({"system": release["ID"].strip(chr(34)) + " " + release.get("VERSION_ID", "").strip(chr(34)),
    "kernel": platform.release(), "arch": platform.machine(), "python": platform.python_version()}))'"""


class Node(BaseResource):
    """One machine; its outputs are `connection`, which the others connect by, and `facts`."""

    computed = ("connection", "facts")
    replace = ("name",)
    # What the plan wants of the machine is asked when it is taken, and is no part of how it is reached. JSON: a text costs Pulumi less than
    # what it says would.
    ignored_inputs = ("wants",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Address and pinned key must be there, nothing is trusted on first use; left out they are by a failure (GIVEN)."""
        return {key: "is needed" for key in ("name", "address", "host_key") if not inputs.get(key, UNKNOWN)}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """The connection follows from the inputs; the facts stay as they are, on the machine as it is."""
        facts = UNKNOWN if reinstalled(old or {}, inputs) else (old or {}).get("facts", UNKNOWN)
        return {**inputs, "connection": _connection(inputs), "facts": facts}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """A changed connection restarts nothing on the machine."""
        return [Effect("none", (), (REINSTALLED if reinstalled(old, inputs) else REACHED,))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Wait until the machine answers, read what runs there, and take it for the stack where it is not the one that it was."""
        with ssh.connect(_met(request, inputs)) as connection:
            facts = _facts(connection)
            wants = inputs.get("wants")
            if wants and any((old or {}).get(key) != inputs.get(key) for key in PLACE):
                # Here: what only a machine that is taken needs is no part of each start of the plugin.
                from fleet.provider import claim

                claim.take(request, connection, json.loads(wants))
        return {**inputs, "connection": _connection(inputs), "facts": facts}

    def read(self, request: Request, properties: Props) -> Props:
        """Nothing of a Node can drift but its reachability, which the resources on it show in the same refresh."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Take the stack's mark off the machine."""
        from fleet.provider import claim

        stack = json.loads(properties.get("wants") or "{}").get("stack") or f"{request.project}/{request.stack}"
        claim.give_back(request, ssh.Target.from_inputs(properties.get("connection") or properties), stack)


def _met(request: Request, inputs: Props) -> ssh.Target:
    """Wait until the machine answers, and return how it is reached from now on."""
    target, timeout = ssh.Target.from_inputs(inputs), float(inputs.get("wait") or BOOT)

    def note(text: str) -> None:
        request.say(text, True)

    if final := inputs.get("final_key"):
        return rekey.meet(target, rekey.FinalKey(**final), timeout, note, request.cancelled)
    ssh.wait(target, timeout, note, request.cancelled)
    return target


def _facts(connection: ssh.Connection) -> Props:
    told = connection.run(FACTS)
    if told.rc:
        raise errors.CommandFailed(
            node=connection.target.name,
            doing="read what runs there",
            seen=reply.last(told.stderr, told.rc),
            wanted="python3, which Ansible needs too",
            next=f"{connection.target.login} apt-get install python3",
        )
    again = "`pulumi up` asks it again"
    try:
        found = {"facts": reply.read(told.stdout, validators.Record({}, open=True))}
    except reply.Unreadable as error:
        mistake = validators.Mistake("facts", error.seen, error.mistake.wanted)
        raise outputs.refused("Node", connection.target, mistake, again) from None
    facts: Props = outputs.checked("Node", connection.target, found, again)["facts"]
    return facts


def reinstalled(old: Props, new: Props) -> bool:
    """Whether a connection is to another installation of the machine than it was: what the state has of it is gone."""
    return bool(new.get("install")) and new["install"] != UNKNOWN and old.get("install") != new["install"]


def _connection(inputs: Props) -> Props:
    """Return how the machine is reached: with its final key, where it got one."""
    known = {key: inputs[key] for key in CONNECTION if key in inputs}
    final = inputs.get("final_key")
    if not final or "host_key" not in known:
        return known
    return {**known, "host_key": UNKNOWN if final == UNKNOWN else final["public"]}
