"""start|watch NAMES: restart the units of replicas, or watch them start.

`start` does not wait. `watch` waits up to five seconds and prints {"state": "running"|"done"|"failed", "failed": [names],
"text": last lines}. `watch` stops a unit that systemd is about to restart: it has failed, and would be tried forever.
Called by tasks/start.yml through `python3 -c`.
"""

import contextlib
import json
import subprocess
import sys
import time

# Docker's and systemd's lines, which hide the last lines of the vLLM server.
NOISE = ("Error response from daemon: No such container", "Stopping ", "Stopped ")


def systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], capture_output=True)


def show(unit: str) -> dict[str, str]:
    """Return the unit's state. Retries: on a node that loads a model, systemctl may not answer."""
    command = ["systemctl", "show", unit, "-p", "ActiveState,SubState,NRestarts,Job"]
    for left in (3, 2, 1, 0):
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode == 0:
            return dict(line.split("=", 1) for line in asked.stdout.splitlines())
        time.sleep(1 if left else 0)
    sys.exit(f"systemctl show {unit}: {asked.stderr.strip()} (4 tries)\nwanted: a systemd that answers")


def state(unit: str) -> str:
    """Return done, failed, or running while systemd starts the unit or still stops its predecessor."""
    seen = show(unit)
    if seen["ActiveState"] == "active" and not seen.get("Job"):
        return "done"
    again = seen["SubState"] == "auto-restart" or seen["NRestarts"] != "0"
    busy = seen["ActiveState"] in ("activating", "deactivating") or seen.get("Job")
    return "running" if busy and not again else "failed"


def words(unit: str, count: int) -> list[str]:
    """Return the unit's last log lines since its last start."""
    command = ["journalctl", f"--unit={unit}", "--lines=400", "--output=cat", "--no-pager"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Starting ")]
    said = lines[starts[-1] + 1 :] if starts else lines
    return [line for line in said if line.strip() and not line.startswith(NOISE)][-count:]


def watch(units: list[str]) -> dict:
    end = time.monotonic() + 4.4  # not a whole number of seconds: roles/long_task/files/long_task.py says why
    while (states := {unit: state(unit) for unit in units}) and time.monotonic() < end:
        if "running" not in states.values():
            break
        time.sleep(0.25)
    failed = [unit for unit, word in states.items() if word == "failed"]
    if failed:
        systemctl("stop", *failed)
        # The journal must have the last lines; with a limit, for a node that writes gigabytes.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["journalctl", "--sync"], capture_output=True, timeout=30)
    running = [unit for unit, word in states.items() if word == "running"]
    if running:
        text = "\n".join(f"{unit}: {''.join(words(unit, 1))}" for unit in running)
    else:
        text = "\n".join(f"{unit}:\n  " + "\n  ".join(words(unit, 30)) for unit in failed)
    names = [unit.removesuffix(".service") for unit in failed]
    return {"state": "running" if running else "failed" if failed else "done", "failed": names, "text": text}


replicas = [f"{name}.service" for name in sys.argv[2].split()]
if sys.argv[1] == "watch":
    print(json.dumps(watch(replicas)), flush=True)
    time.sleep(0.2)
else:
    systemctl("daemon-reload")
    if replicas:
        systemctl("reset-failed", *replicas)
        subprocess.run(["systemctl", "restart", "--no-block", *replicas], check=True)
