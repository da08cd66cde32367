"""Claims about a run that lost its node: where ssh and Ansible gave no reason, the run asks the node once more."""

import dataclasses
import re
import time
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ansible import connection_loss
from fleet.ssh import handshake
from tests.support.programs import write_program
from tests.support.ssh_server import Server, make_key, public

GOES_ON = "`pulumi up` goes on"


def broken(target: ssh.Target) -> errors.FleetError:
    """Return a run's error after its connection broke while ssh gave no reason."""
    loss = connection_loss.from_ssh(target, "docker: Ensure a file", "", GOES_ON)
    return connection_loss.explain(target, loss, 0.0, GOES_ON)


def failed(target: ssh.Target, seconds: float = 0.0) -> errors.FleetError:
    """Return a run's error after the failure of a task that began so many seconds ago."""
    failure = errors.ConvergeFailed(
        node=target.name, doing="docker: Ensure a file", seen="no such folder\nand more", next=GOES_ON
    )
    return connection_loss.explain(target, failure, seconds, GOES_ON)


def systemd(monkeypatch: pytest.MonkeyPatch, folder: Path, state: str, age: float) -> None:
    """Set the state of the machine's systemd, and its age in seconds."""
    start = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * 1e6)
    write_program(folder / "systemctl", f"[ $1 = show ] && echo {start} || echo {state}")
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def revoke(server: Server, folder: Path) -> ssh.Target:
    """Return the server as seen with a key that it does not accept."""
    make_key(folder / "revoked", "user")
    return dataclasses.replace(server.target, identity=str(folder / "revoked" / "user"))


def test_the_next_connection_explains_one_that_broke_without_a_word(server: Server, tmp_path: Path) -> None:
    assert broken(server.target).seen == "the connection broke"  # the node answers, so nothing explains it
    error = broken(revoke(server, tmp_path))
    assert isinstance(error, errors.LoginRefused)
    assert error.seen == f"the login as {server.target.where} is refused"
    error = broken(dataclasses.replace(server.target, host_key=public(make_key(tmp_path / "other", "host"))))
    assert isinstance(error, errors.HostKeyMismatch)
    assert error.seen == f"another host key: {handshake.fingerprint(server.host_key.asbytes())}"
    target = server.target
    server.close()
    assert broken(target).seen == "the connection broke, and now: connection refused"


@pytest.mark.parametrize("state", ["running", "degraded", "starting", "offline"])
def test_a_task_that_fails_on_a_machine_that_stayed_up_keeps_its_own_reason(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    systemd(monkeypatch, tmp_path, state, age=60)
    error = failed(server.target, seconds=30)
    assert isinstance(error, errors.ConvergeFailed) and error.seen == "no such folder\nand more"


def test_a_task_that_fails_during_a_shutdown_is_reported_as_the_shutdown(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd(monkeypatch, tmp_path, "stopping", age=60)
    assert str(failed(server.target, seconds=30)) == (
        "glm-1: docker: Ensure a file: the machine is going down\n"
        "  wanted: an SSH connection that lasts until the run ends\n"
        f"  next:   {server.target.login} true; {GOES_ON}"
    )


def test_a_task_that_failed_before_a_restart_of_the_machine_is_reported_as_the_restart(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd(monkeypatch, tmp_path, "running", age=20)
    error = failed(server.target, seconds=30)
    assert isinstance(error, errors.Unreachable)
    # The age grows while a busy machine runs the test.
    assert re.fullmatch(r"the machine went down, and started again 2\d s ago", error.seen), error.seen


def test_a_task_that_failed_on_a_machine_that_no_longer_answers_is_reported_as_unreachable(server: Server) -> None:
    target = server.target
    server.close()
    error = failed(target)
    assert isinstance(error, errors.Unreachable) and error.wanted == connection_loss.LASTS
    assert error.seen == "the task failed, and now: connection refused"


def test_a_task_that_failed_before_somebody_removed_our_key_keeps_its_own_reason(
    server: Server, tmp_path: Path
) -> None:
    error = failed(revoke(server, tmp_path))
    assert isinstance(error, errors.ConvergeFailed) and error.seen.startswith("no such folder")
