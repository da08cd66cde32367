"""Prints a certificate for the clients of a stack's endpoint that ended ten days ago, with its key: what nobody has renewed.

Needs a stack that is up and the environment of its project. Usage, in that project: python -m tests.support.ended_certificate STACK.
Called by a row of tests/faults/table.
"""

import datetime
import json
import subprocess
import sys
from typing import Any

from fleet import certificates
from tests.support.e2e import opened


def issue(stack: str) -> str:
    """Return the certificate, which the stack's authority has signed a hundred days ago."""
    command = ["pulumi", "stack", "export", "--show-secrets", "--stack", stack]
    export = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout, object_hook=opened)
    states: dict[str, Any] = {item["type"].rpartition(":")[2]: item for item in export["deployment"]["resources"]}
    names = certificates.hosts(states["Gateway"]["outputs"]["certificates"]["server"])
    authority = states["Authority"]["outputs"]
    wanted = certificates.Wanted("server", names[0], tuple(names))
    at = certificates.now() - datetime.timedelta(days=100)
    return certificates.issue(wanted, authority["certificate"], authority["private"], at)


if __name__ == "__main__":
    print(issue(*sys.argv[1:]))
