"""Whether a machine can become what the plan requires, learned in one exec that changes nothing.

Owns what is asked of a machine (on_node_facts.py, on_node_driver.py and roles/host/files/filesystems.py answer there, in one exec) and the
order of the checks, which are in hardware.py and host.py; form.py has the forms. Needs a connection. Called by `fleet.cli.preflight` for any
number of nodes in threads, and by fleet.provider for the Node that it makes.
"""

import dataclasses
import datetime
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from fleet import errors, ssh
from fleet.findings import weigh
from fleet.managed import owner
from fleet.preflight import answer, hardware, host
from fleet.preflight.form import Check, CheckResult, Filesystem, Look, Requirements, Space
from fleet.ssh.script import ScriptFailed, run_script

__all__ = ["CHECKS", "CheckResult", "Filesystem", "Look", "Requirements", "Space", "ask", "check", "look"]

# One script for the node, in this order; the last is the role host's own look at the disks on which it makes file systems.
SCRIPTS = (
    Path(__file__).with_name("on_node_facts.py"),
    Path(__file__).with_name("on_node_driver.py"),
    Path(__file__).resolve().parents[2] / "roles" / "host" / "files" / "filesystems.py",
)
RECORD = "/var/lib/fleet/filesystems.json"  # where that role writes what it made
# By which the UUID of a file system follows from its disk's serial: roles/host/vars/main.yml.
NAMESPACE = uuid.UUID("5a1f2f0c-6a0e-5a0b-9d0a-3d1f7f2c9b64")
# A full look takes about two seconds; an address that does not answer four more, for all of them together.
BOUND = 60.0
# The role rocm writes this apt source; every other source of AMD's packages is somebody else's.
SOURCE = "/etc/apt/sources.list.d/rocm.sources"
CHECKS: Sequence[Check] = (*host.FIRST, *hardware.CHECKS, *host.CHECKS)


def look(requirements: Requirements) -> Look:
    """Connect to the machine and ask it. Raises Unreachable, HostKeyMismatch, LoginRefused, CommandFailed."""
    with ssh.connect(requirements.target) as connection:
        return ask(connection, requirements)


def ask(connection: ssh.Connection, requirements: Requirements) -> Look:
    """Ask the machine everything in one exec. Raises Unreachable, CommandFailed."""
    arguments = {
        "paths": {one.path: one.filled for one in requirements.space},
        "addresses": list(requirements.addresses),
        "ports": list(requirements.ports),
        "owner": owner.MARKER,
        "repositories": list(requirements.repositories),
        "source": SOURCE,
        "loaders": list(requirements.loaders),
        "packages": list(requirements.driver_packages),
        "filesystems": [
            {**dataclasses.asdict(one), "uuid": str(uuid.uuid5(NAMESPACE, one.serial))}
            for one in requirements.filesystems
        ],
        "record": RECORD,
    }
    try:
        facts = run_script(connection, script(), arguments, answer.facts(arguments), BOUND)
    except ScriptFailed as failure:
        raise errors.CommandFailed(
            node=requirements.target.name,
            doing="look before anything is touched",
            seen=failure.seen,
            wanted="python3 3.10 or newer, which Ansible needs too",
            next=f"{requirements.target.login} /usr/bin/python3 --version",
        ) from None
    return Look(facts, float(facts["time"]) - time.time())


def script() -> str:
    """Return what runs on the machine; its main is in on_node_driver.py."""
    return "\n".join(file.read_text() for file in SCRIPTS)


def check(look: Look, requirements: Requirements, today: datetime.date | None = None) -> list[CheckResult]:
    """Return the results of every check of one machine, with the stack's waivers as of that day (default: now)."""
    day = today or datetime.datetime.now(tz=datetime.UTC).date()
    return [_weighed(result, requirements, day) for one in CHECKS for result in one(look, requirements)]


def _weighed(result: CheckResult, requirements: Requirements, today: datetime.date) -> CheckResult:
    """Return a result as it counts for this stack: a warning that is usual for its source is ok, an error that it waives a warning."""
    if result.level == "ok":
        return result
    if result.level == "warning" and result.check in requirements.usual:
        return dataclasses.replace(result, level="ok", wanted="", next="")
    level, note = weigh(result.level, requirements.waivers.get(result.name), today)
    return dataclasses.replace(result, level=level, seen=result.seen + note)
