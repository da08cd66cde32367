"""Run a Python script of the fleet on a node: the script on stdin over SSH, its arguments as JSON, its reply read.

A script is a file on_node_*.py with a function `main`, which takes one argument and prints its reply as the last line.
Called by fleet.managed, fleet.preflight and rekey.
"""

import json
from collections.abc import Iterator
from typing import Any

from fleet.ssh import reply
from fleet.ssh.connection import Connection
from fleet.validators import Form

COMMAND = "/usr/bin/python3 -I -"


class ScriptFailed(Exception):
    """A script that gave no reply. `seen` is the last line that it printed, or what is wrong with its reply.

    `rc` is its exit code; where that is 0, `wanted` says what the reply should have been.
    """

    def __init__(self, rc: int, seen: str, wanted: str = "") -> None:
        super().__init__(seen)
        self.rc, self.seen, self.wanted = rc, seen, wanted


def run_script(
    connection: Connection, script: str, arguments: Any, form: Form | None = None, timeout: float = 60
) -> Any:
    """Run main(`arguments`) of the script as root within `timeout` seconds and return its reply; None without a `form`.

    Raises ScriptFailed, which the caller puts into words, and what Connection.run raises.
    """
    result = connection.run(COMMAND, stdin=with_call(script, arguments), timeout=timeout)
    if result.rc:
        raise ScriptFailed(result.rc, reply.last(result.stderr or result.stdout, result.rc))
    try:
        return reply.read(result.stdout, form) if form else None
    except reply.Unreadable as error:
        raise ScriptFailed(result.rc, error.seen, error.mistake.wanted) from None


def script_lines(connection: Connection, script: str, arguments: Any, silence: float) -> Iterator[str]:
    """Run main(`arguments`) of the script as root and yield each line that it prints. Raises what Connection.lines raises."""
    return connection.lines(COMMAND, stdin=with_call(script, arguments), silence=silence)


def with_call(script: str, arguments: Any) -> str:
    """Return the script with a call of its main at the end."""
    return f"{script}\nimport json\nmain(json.loads({json.dumps(arguments)!r}))\n"
