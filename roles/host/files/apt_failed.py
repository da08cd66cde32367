"""Explain why apt failed: {said: its messages, printed: its standard output} in (JSON, stdin); what was seen, wanted and next out.

Needs apt, ps and /proc. Called by tasks/apt-failed.yml through `python3 -c`, on the node, directly after the failure.
"""

import fcntl
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

FLOCK = struct.Struct("hhqqi4x")  # struct flock of x86_64: type, whence, start, length, pid
BESIDE = re.compile(r"non-zero return code|E: Sub-process|E: Unable to acquire|W: Some index")
# apt's two messages: with and without the process that holds the lock.
LOCK = re.compile(
    r"(?:[Cc]ould not get lock (/[\w./-]*\w)|Unable to acquire the .*lock \((/[^)]+)\))(?:\. It is held by (process \d+ \(\S+\)))?"
)
# Only apt's standard output names them; its message is "you have held broken packages".
UNMET = re.compile(r"The following packages have unmet dependencies:\n((?: .*(?:\n|$))+)")
SUMMARY = re.compile(r"Errors were encountered while processing:\n( .*\n?)*")


def process(pid: int) -> str:
    """Return a process as its command, start time and unit."""
    command, since, unit = (
        subprocess.run(["ps", "-o", f"{what}=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        for what in ("args", "lstart", "unit")
    )
    return f"process {pid} ({command}; since {since}; of {unit})" if command else f"process {pid}, which has ended"


def holder(path: str) -> str:
    """Return the process that holds a lock now, or ""."""
    try:
        with pathlib.Path(path).open("r+") as file:
            asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return ""
    return "" if kind == fcntl.F_UNLCK else process(pid)


def sources() -> list[str]:
    """Return apt's errors about its sources: Ansible reports only that the update failed."""
    said = subprocess.run(["apt-get", "update", "-q"], capture_output=True, text=True).stderr.splitlines()
    return [line for line in said if line.startswith(("E:", "W:")) and not BESIDE.match(line)]


def words(said: str, unmet: list[str]) -> list[str]:
    """Return seen, wanted and next, as lines. `unmet`: lines of apt about dependencies."""
    if lock := LOCK.search(said):
        path = lock[1] or lock[2]
        return [
            f"apt is locked by {holder(path) or lock[3] or 'a process that has ended'}: {path}",
            "wanted: the lock within the time that a run waits for it (host_lock_timeout)",
            "next: let it end, or stop it on the node",
        ]
    if unmet:
        return [
            *unmet,
            "wanted: these packages from the machine's sources of apt",
            "next: `apt-cache policy` and `apt-mark showhold` on the node show from where each comes, and what is held",
        ]
    if "dpkg: error processing" in said or "dpkg was interrupted" in said:
        return [
            said,
            "wanted: packages that dpkg can configure",
            "next: `dpkg --audit` and `dpkg --configure -a` on the node; repair or remove the package that they name",
        ]
    if "update apt cache" in said and (why := sources()):
        return [*why, "wanted: every source in /etc/apt that answers", "next: `apt-get update` on the node"]
    return [said, "wanted: the packages of this role", "next: `apt-get update` and the same installation on the node"]


met = json.load(sys.stdin)
lines = (line.strip() for line in SUMMARY.sub("", met["said"]).splitlines())
block = UNMET.search(met["printed"])
unmet = [" ".join(line.split()) for line in block[1].splitlines()] if block else []
print("\n".join(words("\n".join(dict.fromkeys(line for line in lines if line and not BESIDE.match(line))), unmet)))
