"""Claims about the role long_task, on a node: what a long command says as it ends is told, however fast that is."""

import json
import shlex

from tests.support import playbook
from tests.support.role_node import Place

LONG_TASK = playbook.ROOT / "roles" / "long_task" / "files" / "long_task.py"


def run_and_watch(place: Place, command: str) -> dict[str, str]:
    """Start the command, and wait until it has ended."""
    job = {
        "slice": "fleet-work.slice",
        "verb": "try",
        "command": ["/bin/sh", "-c", command],
        "environment": {},
        "timeout": 60,
        "tries": 1,
    }
    script = f"python3 -c {shlex.quote(LONG_TASK.read_text())}"
    place.sh(f"{script} start", stdin=json.dumps(job))
    report: dict[str, str] = json.loads(place.sh(f"{script} watch", stdin=json.dumps(job)))
    return report


def test_a_command_that_ends_at_once_is_told_in_its_own_words(ready: Place) -> None:
    """Of a unit that has failed the journal no longer knows the invocation: of four such commands one was without a word."""
    reports = [run_and_watch(ready, f"echo {number} is wrong; exit 1") for number in range(12)]
    assert [report["text"] for report in reports] == [f"{number} is wrong" for number in range(12)]


def test_what_an_earlier_try_of_the_same_command_said_is_not_told(ready: Place) -> None:
    command = "[ -e /run/tried ] && echo again || { touch /run/tried; echo first; }; exit 1"
    assert [run_and_watch(ready, command)["text"] for _ in range(2)] == ["first", "again"]
