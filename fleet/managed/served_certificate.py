"""The certificate that a gateway shows its clients, where an ACME server should give it: asks acme-control of the role gateway on the node.

Owns the form of its reply. Needs a connection. Called by fleet.provider for a refresh.
"""

from typing import Any

from fleet import errors, ssh
from fleet.ssh import reply
from fleet.validators import Flag, Record, Text

COMMAND = "/usr/bin/python3 -I /usr/local/lib/fleet/acme-control show"
DAY = Text("a day as 2026-12-31", r"\d{4}-\d{2}-\d{2}", most=10)
WORDS = Text("one printable line without { and }", r"[^{}]*", most=1000)
PARTS = {"by": Text("acme or authority", "acme|authority"), "ends": DAY, "right": Flag(), "seen": WORDS}
CERTIFICATE, REPLY = Record(PARTS), Record({**PARTS, "changed": Flag()})


def look(connection: ssh.Connection) -> dict[str, Any]:
    """Return {by, ends, right, seen}: who has signed it, its last day, whether it is as wanted, why the last ask failed. Raises CommandFailed."""
    result = connection.run(COMMAND)
    try:
        if result.rc:
            raise _failed(connection, reply.last_line(result.stderr, result.rc))
        answer = reply.read(result.stdout, REPLY)
    except reply.Unreadable as error:
        raise _failed(connection, error.seen) from None
    return {name: answer[name] for name in PARTS}


def _failed(connection: ssh.Connection, seen: str) -> errors.CommandFailed:
    return errors.CommandFailed(
        node=connection.target.name,
        doing="ask for the gateway's certificate",
        seen=seen,
        wanted="an answer of acme-control",
        next=f"{connection.target.login} systemctl status fleet-acme.service",
    )
