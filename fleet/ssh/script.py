"""Run one of our Python scripts on a node: send it on stdin over SSH, with its arguments as JSON, and read its reply.

A script is a file on_node_*.py with a function `main`, which takes one argument and prints its reply as the last line.
Needs a connection. Called by fleet.managed, fleet.preflight and rekey.py.
"""

import json
from collections.abc import Iterator
from typing import Any

from fleet.ssh import reply
from fleet.ssh.connection import Connection
from fleet.validators import Form

COMMAND = "/usr/bin/python3 -I -"


class ScriptFailed(Exception):
    """A script that printed no valid reply. `seen` is the last line that it printed, or the mistake in its reply.

    `rc` is its exit code; if that is 0, `wanted` describes a valid reply.
    """

    def __init__(self, rc: int, seen: str, wanted: str = "") -> None:
        super().__init__(seen)
        self.rc, self.seen, self.wanted = rc, seen, wanted


def run_script(
    connection: Connection, script: str, arguments: Any, form: Form | None = None, timeout: float = 60
) -> Any:
    """Run main(`arguments`) of the script as root within `timeout` seconds. Return its reply, None without a `form`.

    Raises ScriptFailed, from which the caller makes its message, and the errors of Connection.run.
    """
    result = connection.run(COMMAND, stdin=with_call(script, arguments), timeout=timeout)
    if result.rc:
        raise ScriptFailed(result.rc, reply.last_line(result.stderr or result.stdout, result.rc))
    try:
        return reply.read(result.stdout, form) if form else None
    except reply.Unreadable as error:
        raise ScriptFailed(result.rc, error.seen, error.mistake.wanted) from None


def script_lines(connection: Connection, script: str, arguments: Any, silence: float) -> Iterator[str]:
    """Run main(`arguments`) of the script as root and yield each line that it prints. Raises the errors of Connection.lines."""
    return connection.lines(COMMAND, stdin=with_call(script, arguments), silence=silence)


def with_call(script: str, arguments: Any) -> str:
    """Return the script with a call of its main at the end."""
    return f"{script}\nimport json\nmain(json.loads({json.dumps(arguments)!r}))\n"
