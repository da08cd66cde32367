"""The real engine deploys to a machine that nobody answers at: one message, of that machine, and none of what waits for it.

Needs `pulumi` on PATH, as test_stacks.py does; skipped with that reason where it is not.
"""

import re
import socket
from pathlib import Path

from tests.support.pulumi_project import link_project, make_stack, pulumi


def test_a_machine_that_nobody_answers_at_has_the_only_message(tmp_path: Path) -> None:
    project = link_project(tmp_path)
    file = make_stack(project, "dev")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    file.write_text(file.read_text().replace("address: 192.0.2.51,", f"address: 127.0.0.1, port: {port}, wait: 1,"))
    failed = pulumi(project, "up", "--yes", "--skip-preview", "--continue-on-error", "-s", "dev", "--color", "never")
    assert failed.returncode != 0
    told = re.findall(r"(?m)^    error: (.*)$", failed.stdout.partition("\nDiagnostics:\n")[2])
    assert sorted(told) == [f"dev-1: connect to root@127.0.0.1:{port}: connection refused", "update failed"], (
        failed.stdout
    )
