"""Whether a machine can become what the plan wants, learned in one exec that changes nothing.

Owns what is asked of a machine (on_node_facts.py, on_node_driver.py and roles/host/files/filesystems.py answer there, in one exec) and the order of
the checks: hardware.py and host.py judge, form.py has the
forms. Needs a connection. Called by `fleet.cli.preflight` for any number of nodes in threads, and by fleet.provider for the Node that it makes.
"""

import dataclasses
import datetime
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from fleet import errors, ssh
from fleet.managed import owner
from fleet.preflight import answer, hardware, host
from fleet.preflight.form import Check, Filesystem, Level, Look, Space, Verdict, Waiver, Wanted
from fleet.ssh.script import ScriptFailed, run_script

__all__ = ["CHECKS", "Filesystem", "Level", "Look", "Space", "Verdict", "Waiver", "Wanted", "ask", "judge", "look"]

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


def look(wanted: Wanted) -> Look:
    """Connect to the machine and ask it. Raises Unreachable, HostKeyMismatch, LoginRefused, CommandFailed."""
    with ssh.connect(wanted.target) as connection:
        return ask(connection, wanted)


def ask(connection: ssh.Connection, wanted: Wanted) -> Look:
    """Ask the machine everything in one exec. Raises Unreachable, CommandFailed."""
    arguments = {
        "paths": {one.path: one.filled for one in wanted.space},
        "addresses": list(wanted.addresses),
        "ports": list(wanted.ports),
        "owner": owner.MARKER,
        "repositories": list(wanted.repositories),
        "source": SOURCE,
        "loaders": list(wanted.loaders),
        "packages": list(wanted.driver_packages),
        "filesystems": [
            {**dataclasses.asdict(one), "uuid": str(uuid.uuid5(NAMESPACE, one.serial))} for one in wanted.filesystems
        ],
        "record": RECORD,
    }
    try:
        facts = run_script(connection, script(), arguments, answer.facts(arguments), BOUND)
    except ScriptFailed as failure:
        raise errors.CommandFailed(
            node=wanted.target.name,
            doing="look before anything is touched",
            seen=failure.seen,
            wanted="python3 3.10 or newer, which Ansible needs too",
            next=f"{wanted.target.login} /usr/bin/python3 --version",
        ) from None
    return Look(facts, float(facts["time"]) - time.time())


def script() -> str:
    """Return what runs on the machine; its main is in on_node_driver.py."""
    return "\n".join(file.read_text() for file in SCRIPTS)


def judge(seen: Look, wanted: Wanted, today: datetime.date | None = None) -> list[Verdict]:
    """Return what every check says of one machine, less what the stack waives on that day (default: now)."""
    day = today or datetime.datetime.now(tz=datetime.UTC).date()
    return [_weighed(verdict, wanted, day) for check in CHECKS for verdict in check(seen, wanted)]


def _weighed(verdict: Verdict, wanted: Wanted, today: datetime.date) -> Verdict:
    """Return a verdict as it counts for this stack: what its machines always are is fine, a fault that it waives only warns."""
    if verdict.level == "warning" and verdict.check in wanted.usual:
        return dataclasses.replace(verdict, level="ok", wanted="", next="")
    waiver = wanted.waivers.get(verdict.name)
    if verdict.level == "ok" or waiver is None:
        return verdict
    if waiver.expires < today:
        late = f"(its waiver expired on {waiver.expires} and does not count)"
        return dataclasses.replace(verdict, seen=f"{verdict.seen}\n{late}")
    return dataclasses.replace(
        verdict, level="warning", seen=f"{verdict.seen}\n(waived until {waiver.expires}: {waiver.reason})"
    )
