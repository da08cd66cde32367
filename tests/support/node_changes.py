"""Looks at a node, and compares two looks: rebooted, restarted, reloaded.

Owns the claim that `changes` misses nothing that somebody on the machine would notice: a look has every running service, whoever owns it.
Needs a way to run a command on the node. Called by testbed.py.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping

# systemd's own mark of a finished reload (sd-messages.h, SD_MESSAGE_UNIT_RELOADED).
LOOK = """
import json, subprocess
def out(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout
blocks = out("systemctl", "show", "*.service", "--property=Id,InvocationID,SubState").split("\\n\\n")
units = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
entries = out("journalctl", "--boot", "--quiet", "--output=json", "MESSAGE_ID=7b05ebc668384222baa8881179cfda54").splitlines()
reloads = [json.loads(entry).get("UNIT", "") for entry in entries]
containers = [line.split() for line in out("docker", "ps", "--no-trunc", "--format={{.Names}} {{.ID}}").splitlines()]
print(json.dumps({
    "boot": open("/proc/sys/kernel/random/boot_id").read().strip(),
    "running": {unit["Id"]: unit["InvocationID"] for unit in units if unit.get("SubState") == "running"},
    "reloads": {unit: reloads.count(unit) for unit in reloads},
    "containers": dict(containers),
}))
"""
# They start and end with each of our connections.
OURS = ("user@", "ssh@", "sshd@", "session-")


@dataclasses.dataclass(frozen=True)
class Look:
    """The boot; the services that run, with systemd's id of that run; how often each was reloaded since the boot; containers by name."""

    boot: str
    running: Mapping[str, str]
    reloads: Mapping[str, int]
    containers: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Changes:
    """What one run did. Units that were started or stopped count as restarted; a reboot restarts everything, and names none."""

    rebooted: bool
    restarted: frozenset[str] = frozenset()
    reloaded: frozenset[str] = frozenset()


def look(run: Callable[[str], str]) -> Look:
    """Look at the node; `run` runs a command there and returns its output."""
    facts = json.loads(run(f"python3 - <<'LOOK'\n{LOOK}\nLOOK"))
    running = {unit: run_id for unit, run_id in facts["running"].items() if not unit.startswith(OURS)}
    return Look(facts["boot"], running, facts["reloads"], facts["containers"])


def changes(before: Look, after: Look) -> Changes:
    """Return what differs. Raises AssertionError where a replica's unit and its container contradict each other."""
    if before.boot != after.boot:
        return Changes(rebooted=True)
    restarted = _differing(before.running, after.running)
    containers = {f"{name}.service" for name in _differing(before.containers, after.containers)}
    assert containers <= restarted, f"{containers - restarted}: another container, and the unit ran on"
    reloads = {unit for unit, count in after.reloads.items() if count != before.reloads.get(unit, 0)}
    return Changes(False, frozenset(restarted), frozenset(reloads))


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
