"""The resource Node: a machine that answers SSH with its pinned key, passes the preflight and is marked as this stack's.

Called by the servicer. Needs fleet.ssh (the first connection imports paramiko); claim.py runs the preflight and writes the mark.
"""

import json
from collections.abc import Mapping

from fleet import errors, ssh, validators
from fleet.impact.effects import Effect
from fleet.provider import outputs
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import UNKNOWN, Props
from fleet.ssh import rekey, reply

# Seconds until a machine must answer, if its source sets no `wait`: a bare-metal MI300X machine boots for minutes.
BOOT = 900.0
# Reasons in a preview.
CONNECTION_CHANGED = "only its connection changes"
REINSTALLED = "the machine is reinstalled"
# `install` is the nonce of the installation, if the source installs machines: after another one the machine is empty.
CONNECTION = ("name", "address", "port", "user", "identity", "host_key", "become", "bastion", "install")
# With a change of these it may be another machine.
MACHINE_INPUTS = ("address", "host_key", "install")
# One exec: the facts for `fleet show` and for messages.
FACTS = """python3 -I -c '
import json, platform
release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
print(json.dumps({"system": release["ID"].strip(chr(34)) + " " + release.get("VERSION_ID", "").strip(chr(34)),
    "kernel": platform.release(), "arch": platform.machine(), "python": platform.python_version()}))'"""


class Node(BaseResource):
    """One machine; its outputs are `connection`, an input of the resources on it, and `facts`."""

    computed = ("connection", "facts")
    replace = ("name",)
    # The requirements of the preflight: only a claim reads them. As JSON text they cost Pulumi less than as an object.
    ignored_inputs = ("wants",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Require name, address and host_key. After a failure the Pulumi engine omits them: see FROM_RESOURCES."""
        return {key: "is required" for key in ("name", "address", "host_key") if not inputs.get(key, UNKNOWN)}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the connection from the inputs, and the old facts unless the machine is reinstalled."""
        facts = UNKNOWN if is_reinstalled(old or {}, inputs) else (old or {}).get("facts", UNKNOWN)
        return {**inputs, "connection": _connection(inputs), "facts": facts}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return one effect without a restart."""
        return [Effect("none", (), (REINSTALLED if is_reinstalled(old, inputs) else CONNECTION_CHANGED,))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Wait until the machine answers, read its facts, and claim it for the stack if it may be another machine."""
        with ssh.connect(_wait(request, inputs)) as connection:
            facts = _read_facts(connection)
            requirements = inputs.get("wants")
            if requirements and any((old or {}).get(key) != inputs.get(key) for key in MACHINE_INPUTS):
                from fleet.provider import claim  # not needed at each start of the plugin

                claim.claim(request, connection, json.loads(requirements))
        return {**inputs, "connection": _connection(inputs), "facts": facts}

    def read(self, request: Request, properties: Props) -> Props:
        """Return the properties: a machine that does not answer already fails the refresh of the resources on it."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Remove the stack's mark from the machine."""
        from fleet.provider import claim

        stack = json.loads(properties.get("wants") or "{}").get("stack") or f"{request.project}/{request.stack}"
        claim.release(request, ssh.Target.from_inputs(properties.get("connection") or properties), stack)


def _wait(request: Request, inputs: Props) -> ssh.Target:
    """Wait until the machine answers. Return its target, with its final key. Raises Unreachable."""
    target, timeout = ssh.Target.from_inputs(inputs), float(inputs.get("wait") or BOOT)

    def note(text: str) -> None:
        request.report(text, True)

    if final := inputs.get("final_key"):
        return rekey.wait_with_final_key(target, rekey.FinalKey(**final), timeout, note, request.cancelled)
    ssh.wait(target, timeout, note, request.cancelled)
    return target


def _read_facts(connection: ssh.Connection) -> Props:
    """Return system, kernel, architecture and Python version. Raises CommandFailed or OutputMalformed."""
    result = connection.run(FACTS)
    if result.rc:
        raise errors.CommandFailed(
            node=connection.target.name,
            doing="read its facts",
            seen=reply.last_line(result.stderr, result.rc),
            wanted="python3, which Ansible needs too",
            next=f"{connection.target.login} apt-get install python3",
        )
    next_step = "`pulumi up` reads them again"
    try:
        results = {"facts": reply.read(result.stdout, validators.Record({}, open=True))}
    except reply.Unreadable as error:
        mistake = validators.Mistake("facts", error.seen, error.mistake.wanted)
        raise outputs.malformed("Node", connection.target, mistake, next_step) from None
    facts: Props = outputs.check_results("Node", connection.target, results, next_step)["facts"]
    return facts


def is_reinstalled(old: Props, new: Props) -> bool:
    """Return whether the connection is to another installation of the machine: what the state lists no longer exists."""
    return bool(new.get("install")) and new["install"] != UNKNOWN and old.get("install") != new["install"]


def _connection(inputs: Props) -> Props:
    """Return the output `connection`, with the final host key if the source provides one."""
    connection = {key: inputs[key] for key in CONNECTION if key in inputs}
    final = inputs.get("final_key")
    if not final or "host_key" not in connection:
        return connection
    return {**connection, "host_key": UNKNOWN if final == UNKNOWN else final["public"]}
