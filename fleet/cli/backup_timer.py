"""The systemd units that make a stack's backup regularly: a service that runs bootstrap/backup.sh once, and its timer. Opens no connection."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet import errors
from fleet.cli import common

WORDS = ("minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually")
CALENDAR = re.compile(r"[A-Za-z0-9*/:.,~ -]{1,100}")
SERVICE = """\
[Unit]
Description=Back up the stack {stack} of glm-fleet
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={root}
Environment={state}
EnvironmentFile=-{credentials}
ExecStart={script} {arguments}
UMask=0077
Nice=10
"""
TIMER = """\
[Unit]
Description=Back up the stack {stack} of glm-fleet, {schedule}

[Timer]
OnCalendar={schedule}
RandomizedDelaySec=10min
Persistent=true

[Install]
WantedBy=timers.target
"""


def units(stack: str, place: str, schedule: str) -> dict[str, str]:
    """Return {name: content} of the service and its timer. Raises FleetError for a schedule that systemd does not know."""
    _check(schedule)
    root, state = common.root(), common.state_folder()
    words = {
        "stack": _percent(stack),
        "root": _percent(str(root)),
        "state": _quoted(f"FLEET_STATE={state}"),
        "credentials": _percent(str(credentials())),
        "script": _quoted(str(root / "bootstrap" / "backup.sh")),
        "arguments": " ".join(map(_quoted, [stack, *([place] if place else [])])),
        "schedule": schedule,
    }
    return {f"{name(stack)}.service": SERVICE.format(**words), f"{name(stack)}.timer": TIMER.format(**words)}


def name(stack: str) -> str:
    """Return the name of a stack's units without their ending."""
    return f"glm-fleet-backup-{stack}"


def credentials() -> Path:
    """Return the file with the environment of the timer's runs."""
    return common.state_folder() / "backup.env"


def folder() -> Path:
    """Return the folder of the units: the system's for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def write(contents: Mapping[str, str], stack: str, place: str) -> str:
    """Write the units; return them as text, with the commands that start the timer."""
    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    for unit, content in contents.items():
        (target / unit).write_text(content)
    parts = [f"# {target / unit}\n{content}" for unit, content in contents.items()]
    user = "" if os.geteuid() == 0 else " --user"
    steps = [f"systemctl{user} daemon-reload && systemctl{user} enable --now {name(stack)}.timer"]
    if user:
        steps.append("loginctl enable-linger    # so that it also runs while you are logged out")
    if place.startswith("s3://"):
        file = shlex.quote(str(credentials()))
        steps.insert(0, f"install -m 600 /dev/null {file}    # then AWS_ACCESS_KEY_ID=… and the others, one a line")
    return "\n".join([*parts, "next:", *(f"  {step}" for step in steps)])


def _check(schedule: str) -> None:
    """Raise FleetError for a schedule that is none; systemd itself says so where it is installed."""
    known = schedule in WORDS or bool(CALENDAR.fullmatch(schedule))
    reason = "" if known else "no letters, digits, blanks and * / : . , ~ - alone"
    if known:
        try:
            command = ["systemd-analyze", "calendar", "--", schedule]
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
            reason = answer.stderr.strip().splitlines()[0] if answer.returncode else ""
        except FileNotFoundError:  # a controller without systemd writes units for another
            return
    if reason:
        raise errors.FleetError(
            doing=f"schedule a backup {schedule!r}", seen=reason, wanted="daily, hourly, or a calendar as '*-*-* 02:00'"
        )


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return one word of a unit's line, as systemd.service(5) quotes it."""
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\]", word) else escaped
