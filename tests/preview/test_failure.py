"""The real Pulumi engine deploys to a machine that does not answer: one message, about that machine, and none about its other resources.

Needs `pulumi` on PATH, as test_stacks.py does; skipped with that reason where it is not.
"""

import re
import socket
from pathlib import Path

from tests.support.environment import expect_failure
from tests.support.pulumi_project import link_project, make_stack, pulumi


def test_a_machine_that_does_not_answer_has_the_only_message(tmp_path: Path) -> None:
    project = link_project(tmp_path)
    file = make_stack(project, "dev")
    with socket.create_server(("127.0.0.1", 0)) as socket_server:
        port = socket_server.getsockname()[1]
    file.write_text(file.read_text().replace("address: 192.0.2.51,", f"address: 127.0.0.1, port: {port}, wait: 1,"))
    run = pulumi(project, "up", "--yes", "--skip-preview", "--continue-on-error", "-s", "dev", "--color", "never")
    expect_failure(run)
    messages = re.findall(r"(?m)^    error: (.*)$", run.stdout.partition("\nDiagnostics:\n")[2])
    message = f"dev-1: connect to root@127.0.0.1:{port}: connection refused"
    assert sorted(messages) == [message, "update failed"], run.stdout
