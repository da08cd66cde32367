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
# Of the user's environment, what chooses another backend or passphrase than the default one (bootstrap/env.sh).
CHOICES = ("FLEET_BACKEND", "FLEET_PASSPHRASE_FILE")
CALENDAR = re.compile(r"[A-Za-z0-9*/:.,~ -]{1,100}")
SERVICE = """\
[Unit]
Description=Back up the stack {stack} of glm-fleet
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={root}
{environment}
EnvironmentFile=-{credentials}
ExecStart={command}
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
    root = common.root()
    environment = {"FLEET_STATE": str(common.state_folder()), **_choices()}
    command = [str(root / "bootstrap" / "backup.sh"), stack, *([place] if place else [])]
    words = {
        "stack": _percent(stack),
        "root": _percent(str(root)),
        "environment": "\n".join(f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()),
        "credentials": _percent(str(credentials())),
        "command": " ".join(_quoted(word).replace("$", "$$") for word in command),
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
    if any(where.startswith("s3://") for where in (place, _choices().get("FLEET_BACKEND", ""))):
        file = shlex.quote(str(credentials()))
        steps.insert(0, f"install -m 600 /dev/null {file}    # then AWS_ACCESS_KEY_ID=… and the others, one a line")
    return "\n".join([*parts, "next:", *(f"  {step}" for step in steps)])


def _choices() -> dict[str, str]:
    return {name: os.environ[name] for name in CHOICES if os.environ.get(name)}


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
    """Return one word of a unit's line, as systemd.syntax(7) quotes it; in a command a $ stands twice besides."""
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s\"'\\]", word) else escaped
