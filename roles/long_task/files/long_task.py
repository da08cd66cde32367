"""start|watch: start one long command as a transient systemd unit, or watch it.

Owns the unit fleet-VERB-HASH.service. Needs systemd-run, and a job as JSON on stdin:
{slice, verb, command: [str], environment: {str: str}, properties: [NAME=VALUE], timeout: s, tries: n}. Called by roles/long_task/tasks/main.yml through `python3 -c`.
`watch` waits up to four seconds and prints {"state": "running"|"done"|"failed"|"gone", "text": last lines}, and for a full disk
also {"next": what to do}.
"""

import contextlib
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import time

# Not a whole number of seconds: at the end of each second Ansible checks whether a silent command has ended, and if so ignores its last
# output (run_command of ansible-core 2.19). For the same reason a command stays a moment after its last output.
BOUND, MOMENT = 4.4, 0.2
AGAIN = 'n=0; until "$@"; do n=$((n+1)); [ "$n" -ge "$0" ] && exit 1; sleep $((n*3)); done'


def show(unit: str) -> dict[str, str]:
    """Return the unit's state. Retries: on a node that writes gigabytes, systemctl may not answer."""
    command = ["systemctl", "show", unit, "-p", "ActiveState,SubState,Result,ConditionTimestampMonotonic"]
    for left in (3, 2, 1, 0):
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode == 0:
            return dict(line.split("=", 1) for line in asked.stdout.splitlines())
        time.sleep(1 if left else 0)
    sys.exit(f"systemctl show {unit}: {asked.stderr.strip()} (4 tries)\nwanted: a systemd that answers")


def runs(seen: dict[str, str]) -> bool:
    """Return whether the unit runs or is being stopped: until then systemd has no result."""
    return seen["SubState"] in ("running", "start") or seen["ActiveState"] == "deactivating"


def lines(unit: str, seen: dict[str, str], count: int) -> list[str]:
    """Return the unit's last log lines since its last start.

    Selected by time, not by _SYSTEMD_INVOCATION_ID: lines that reach the journal after the unit failed do not have it.
    The time is that of the unit's conditions: on a busy node a command may end before systemd takes its unit for started.
    """
    command = ["journalctl", "--boot", f"_SYSTEMD_UNIT={unit}", "-n", str(count), "-o", "json", "--no-pager"]
    entries = map(json.loads, subprocess.run(command, capture_output=True, text=True).stdout.splitlines())
    start = int(seen["ConditionTimestampMonotonic"])  # us, as the journal's
    said = "\n".join(words(entry.get("MESSAGE")) for entry in entries if int(entry["__MONOTONIC_TIMESTAMP"]) >= start)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said.replace("\r", "\n"))  # programs that colour their output
    return [line.strip() for line in plain.splitlines() if line.strip()]


def words(message: str | list[int] | None) -> str:
    """Return a message of journalctl's JSON as text: it is bytes if not UTF-8, null if very long."""
    return bytes(message).decode(errors="replace") if isinstance(message, list) else message or ""


def take_in() -> None:
    """Wait until the journal has the lines so far; with a limit, for a node that writes gigabytes."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["journalctl", "--sync"], capture_output=True, timeout=30)


def start(unit: str, job: dict) -> None:
    if show(unit)["SubState"] in ("running", "start"):
        print("already running, left by an earlier run: waiting for it")
        return
    let_go(unit)
    environment = {"HOME": "/root", **job["environment"]}
    started = subprocess.run(
        ["systemd-run", "--quiet", f"--unit={unit}", f"--slice={job['slice']}", "--service-type=exec"]
        + [
            "--property=RemainAfterExit=yes",
            f"--property=RuntimeMaxSec={job['timeout']}",
            "--property=TimeoutStopSec=8",
        ]
        + [f"--property={one}" for one in job.get("properties", ())]
        + [f"--setenv={name}={value}" for name, value in environment.items()]
        + ["/bin/sh", "-c", AGAIN, str(job["tries"]), *job["command"]],
        capture_output=True,
        text=True,
    )
    # A command that fails at once may fail its unit's start: `watch` reports its output.
    if started.returncode and show(unit)["ActiveState"] != "failed":
        sys.exit(f"systemd-run {unit}: {started.stderr.strip()}\nwanted: a systemd that starts it")


def watch(unit: str) -> dict[str, str]:
    end = time.monotonic() + BOUND
    while runs(seen := show(unit)) and time.monotonic() < end:
        time.sleep(0.2)
    if runs(seen):
        return {"state": "running", "text": "".join(lines(unit, seen, 1)[-1:])}
    take_in()
    if seen["SubState"] == "exited":
        state, text = "done", "".join(lines(unit, seen, 1)[-1:])
    elif seen["ActiveState"] == "failed":
        state, text = "failed", "\n".join(lines(unit, seen, 14)) or f"ended without output ({seen['Result']})"
        if seen["Result"] == "timeout":
            text += "\nstopped by systemd: it ran longer than its timeout"
    else:
        state, text = "gone", "the task was stopped from outside (a cancelled run, or the node rebooted)"
    return {"state": state, **full(text)}


def let_go(unit: str) -> None:
    """Unload a unit that has ended, which systemd keeps (RemainAfterExit, failed)."""
    subprocess.run(["systemctl", "stop", unit], capture_output=True)
    subprocess.run(["systemctl", "reset-failed", unit], capture_output=True)


def full(text: str) -> dict[str, str]:
    """Return the text; if it reports a full file system, also the free space and what to do."""
    if not (found := re.search(r"(/[^\s:'\"]+)?:? ?no space left", text, re.IGNORECASE)):
        return {"text": text}
    folder = pathlib.Path(found[1] or "/")
    while not folder.is_dir():
        folder = folder.parent
    command = ["df", "-h", "--output=avail,size,target", str(folder)]
    free, size, place = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[-1].split()
    return {
        "text": text if " are free" in text else f"{text}\n{place}: {free} of {size} are free",
        "next": f"make room at {place} on the node (`df -h`, `docker system df`); then `pulumi up` goes on where this stopped",
    }


task = json.load(sys.stdin)
name = f"fleet-{task['verb']}-{hashlib.sha256(json.dumps(task['command']).encode()).hexdigest()[:8]}.service"
if sys.argv[1] == "start":
    start(name, task)
else:
    answer = watch(name)
    print(json.dumps(answer), flush=True)
    if answer["state"] != "running":
        let_go(name)  # after the answer, which needs the unit
    time.sleep(MOMENT)
