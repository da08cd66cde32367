"""Checks whether a machine meets a stack's requirements, before anything changes there.

One command runs on_node_facts.py, on_node_driver.py and roles/host/files/filesystems.py on the machine, and prints its facts. hardware.py and
host.py have the checks, form.py the types. Needs a connection. Called by fleet.cli.preflight, for many nodes in threads, and by
fleet.provider.claim for a new Node.
"""

import dataclasses
import datetime
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from fleet import errors, findings, ssh
from fleet.managed import owner
from fleet.preflight import answer, hardware, host
from fleet.preflight.form import Check, CheckResult, Filesystem, Observation, Requirements, Space
from fleet.ssh.script import ScriptFailed, run_script

__all__ = ["CheckResult", "Filesystem", "Observation", "Requirements", "Space", "check", "observe", "read_facts"]

# The parts of the node's script, in this order. The role host uses the last one, too, before it makes file systems.
SCRIPTS = (
    Path(__file__).with_name("on_node_facts.py"),
    Path(__file__).with_name("on_node_driver.py"),
    Path(__file__).resolve().parents[2] / "roles" / "host" / "files" / "filesystems.py",
)
RECORD = "/var/lib/fleet/filesystems.json"  # the role's record of the file systems that it made
# The UUID of a file system is the uuid5 of its disk's serial in this namespace: roles/host/vars/main.yml.
NAMESPACE = uuid.UUID("5a1f2f0c-6a0e-5a0b-9d0a-3d1f7f2c9b64")
BOUND = 60.0  # seconds; the script takes about two, and four more when addresses do not answer
# The role rocm writes this apt source. Somebody else configured any other source of AMD's packages.
SOURCE = "/etc/apt/sources.list.d/rocm.sources"
CHECKS: Sequence[Check] = (*host.FIRST, *hardware.CHECKS, *host.CHECKS)
# Checks of what only a machine that serves needs: GPUs, their driver, memory and disks for weights, a Docker daemon.
FOR_SERVING: Sequence[Check] = (*hardware.FOR_SERVING, *host.FOR_SERVING)


def observe(requirements: Requirements) -> Observation:
    """Connect to the machine and read its facts. Raises Unreachable, HostKeyMismatch, LoginRefused, CommandFailed."""
    with ssh.connect(requirements.target) as connection:
        return read_facts(connection, requirements)


def read_facts(connection: ssh.Connection, requirements: Requirements) -> Observation:
    """Read all facts of the machine with one command. Raises Unreachable, CommandFailed."""
    arguments = {
        "paths": {space.path: space.filled for space in requirements.space},
        "addresses": list(requirements.addresses),
        "ports": list(requirements.ports),
        "owner": owner.MARKER,
        "repositories": list(requirements.repositories),
        "source": SOURCE,
        "loaders": list(requirements.loaders),
        "packages": list(requirements.driver_packages),
        "filesystems": [
            {**dataclasses.asdict(disk), "uuid": str(uuid.uuid5(NAMESPACE, disk.serial))}
            for disk in requirements.filesystems
        ],
        "record": RECORD,
    }
    try:
        facts = run_script(connection, script(), arguments, answer.facts(arguments), BOUND)
    except ScriptFailed as failure:
        raise errors.CommandFailed(
            node=requirements.target.name,
            doing="check the machine before any change",
            seen=failure.seen,
            wanted="python3 3.10 or newer, which Ansible needs too",
            next=f"{requirements.target.login} /usr/bin/python3 --version",
        ) from None
    return Observation(facts, float(facts["time"]) - time.time())


def script() -> str:
    """Return the script that runs on the machine. Its `main` is in on_node_driver.py."""
    return "\n".join(file.read_text() for file in SCRIPTS)


def check(
    observation: Observation, requirements: Requirements, today: datetime.date | None = None
) -> list[CheckResult]:
    """Return the results of all checks of one machine, with the stack's waivers of that day (default: today)."""
    day = today or findings.today()
    checks = [run for run in CHECKS if requirements.serves or run not in FOR_SERVING]
    return [_weigh(result, requirements, day) for run in checks for result in run(observation, requirements)]


def _weigh(result: CheckResult, requirements: Requirements, today: datetime.date) -> CheckResult:
    """Return a result with this stack's level: ok for a warning that its source always has, a warning for a waived error."""
    if result.level == "ok":
        return result
    if result.level == "warning" and result.check in requirements.expected_warnings:
        return dataclasses.replace(result, level="ok", wanted="", next="")
    level, note = findings.weigh(result.level, requirements.waivers.get(result.name), today)
    return dataclasses.replace(result, level=level, seen=result.seen + note)
