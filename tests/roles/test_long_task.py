"""Claims about the role long_task, on a node: it reports a command's last output, however fast the command ends."""

import json
import shlex

from tests.support import playbook
from tests.support.role_node import Place

LONG_TASK = playbook.ROOT / "roles" / "long_task" / "files" / "long_task.py"


def run_and_watch(place: Place, command: str) -> dict[str, str]:
    """Start the command, wait for its end, and return the report."""
    argv = ["/bin/sh", "-c", command]
    job = {"slice": "fleet-work.slice", "verb": "try", "command": argv, "environment": {}, "timeout": 60, "tries": 1}
    script = f"python3 -c {shlex.quote(LONG_TASK.read_text())}"
    place.sh(f"{script} start", stdin=json.dumps(job))
    report: dict[str, str] = json.loads(place.sh(f"{script} watch", stdin=json.dumps(job)))
    return report


def test_a_report_has_the_output_of_a_command_that_ends_at_once(ready: Place) -> None:
    """The journal forgets the invocation of a failed unit: without care one of four such reports is empty."""
    reports = [run_and_watch(ready, f"echo {number} is wrong; exit 1") for number in range(12)]
    assert [report["text"] for report in reports] == [f"{number} is wrong" for number in range(12)]


def test_a_report_has_no_output_of_an_earlier_try(ready: Place) -> None:
    command = "[ -e /run/tried ] && echo again || { touch /run/tried; echo first; }; exit 1"
    assert [run_and_watch(ready, command)["text"] for _ in range(2)] == ["first", "again"]
