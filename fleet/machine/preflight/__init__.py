"""Whether a machine can become what the plan wants, learned in one exec that changes nothing.

Owns what is asked of a machine (remote.py does it there) and the order of the checks: hardware.py and host.py judge, form.py has the
forms. Needs a connection. Called by `fleet.preflight` for any number of nodes in threads.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from fleet import errors
from fleet.machine import ssh
from fleet.machine.preflight import hardware, host
from fleet.machine.preflight.form import Check, Level, Look, Space, Verdict, Wanted

__all__ = ["CHECKS", "Level", "Look", "Space", "Verdict", "Wanted", "judge", "look"]

SCRIPT = Path(__file__).with_name("remote.py")
# A full look takes about two seconds; an address that does not answer four more, for all of them together.
BOUND = 60.0
OWNER = "/etc/fleet/owner.json"
CHECKS: Sequence[Check] = (*host.FIRST, *hardware.CHECKS, *host.CHECKS)


def look(wanted: Wanted) -> Look:
    """Ask the machine everything in one exec. Raises Unreachable, HostKeyMismatch, LoginRefused, CommandFailed."""
    asked = {
        "paths": {one.path: one.filled for one in wanted.space},
        "addresses": list(wanted.addresses),
        "ports": list(wanted.ports),
        "owner": OWNER,
    }
    script = f"{SCRIPT.read_text()}\nmain(json.loads({json.dumps(asked)!r}))\n"
    with ssh.connect(wanted.target) as connection:
        told = connection.run("/usr/bin/python3 -I -", stdin=script, timeout=BOUND)
        now = time.time()
    try:
        facts = json.loads(told.stdout)
    except ValueError:
        raise errors.CommandFailed(
            node=wanted.target.name,
            doing="look before anything is touched",
            seen=(told.stderr.strip().splitlines() or [f"exit code {told.rc}"])[-1],
            wanted="python3 3.10 or newer, which Ansible needs too",
            next=f"{wanted.target.login} /usr/bin/python3 --version",
        ) from None
    return Look(facts, float(facts["time"]) - now)


def judge(seen: Look, wanted: Wanted) -> list[Verdict]:
    """Return what every check says of one machine."""
    return [verdict for check in CHECKS for verdict in check(seen, wanted)]
