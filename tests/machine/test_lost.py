"""Claims about a run that lost its node: what neither ssh nor Ansible has told is told by the node, which is asked once more."""

import dataclasses
import time
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ansible import connection_loss
from fleet.ssh import handshake
from tests.support.ssh_server import Server, _key

GOES_ON = "`pulumi up` goes on"


def broken(target: ssh.Target) -> errors.FleetError:
    """What a run says whose connection broke while ssh gave no reason."""
    return connection_loss.explain(
        target, connection_loss.from_ssh(target, "docker: Ensure a file", "", GOES_ON), 0.0, GOES_ON
    )


def failed(target: ssh.Target, seconds: float = 0.0) -> errors.FleetError:
    """What a run says of which a task failed that began so many seconds ago."""
    failure = errors.ConvergeFailed(
        node=target.name, doing="docker: Ensure a file", seen="no such folder\nand more", next=GOES_ON
    )
    return connection_loss.explain(target, failure, seconds, GOES_ON)


def systemd(monkeypatch: pytest.MonkeyPatch, folder: Path, state: str, age: float) -> None:
    """Let the systemd of the machine that is asked be in a state, and have started so many seconds ago."""
    started = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * 1e6)
    (folder / "systemctl").write_text(f"#!/bin/sh\n[ $1 = show ] && echo {started} || echo {state}\n")
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_connection_that_broke_without_a_word_is_explained_by_the_next_one(server: Server, tmp_path: Path) -> None:
    assert broken(server.target).seen == "the connection broke"  # it answers: there is nothing to add
    (tmp_path / "revoked").mkdir()
    _key(tmp_path / "revoked", "user")
    revoked = broken(dataclasses.replace(server.target, identity=str(tmp_path / "revoked" / "user")))
    assert isinstance(revoked, errors.LoginRefused)
    assert revoked.seen == f"the login as {server.target.where} is refused"
    other = _key(tmp_path / "revoked", "host")
    strange = broken(dataclasses.replace(server.target, host_key=f"{other.get_name()} {other.get_base64()}"))
    assert isinstance(strange, errors.HostKeyMismatch)
    assert strange.seen == f"another host key: {handshake.fingerprint(server.host_key.asbytes())}"
    target = server.target
    server.close()
    assert broken(target).seen == "the connection broke, and now: connection refused"


@pytest.mark.parametrize("state", ["running", "degraded", "starting", "offline"])
def test_a_task_that_fails_on_a_machine_that_stood_all_the_while_tells_its_own_reason(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    systemd(monkeypatch, tmp_path, state, age=60)
    told = failed(server.target, seconds=30)
    assert isinstance(told, errors.ConvergeFailed) and told.seen == "no such folder\nand more"


def test_a_task_that_fails_while_the_machine_goes_down_is_told_as_that(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd(monkeypatch, tmp_path, "stopping", age=60)
    assert str(failed(server.target, seconds=30)) == (
        "glm-1: docker: Ensure a file: the machine is going down\n"
        "  wanted: an SSH connection that lasts until the run ends\n"
        f"  next:   {server.target.login} true; {GOES_ON}"
    )


def test_a_task_that_failed_before_the_machine_started_again_is_told_as_that(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd(monkeypatch, tmp_path, "running", age=20)
    told = failed(server.target, seconds=30)
    assert isinstance(told, errors.Unreachable)
    assert told.seen == "the machine went down, and started again 20 s ago"


def test_a_task_that_failed_on_a_machine_that_answers_no_more_is_told_as_that(server: Server) -> None:
    target = server.target
    server.close()
    told = failed(target)
    assert isinstance(told, errors.Unreachable) and told.wanted == connection_loss.LASTS
    assert told.seen == "the task failed, and now: connection refused"


def test_a_task_that_failed_before_our_key_was_taken_out_tells_its_own_reason(server: Server, tmp_path: Path) -> None:
    (tmp_path / "revoked").mkdir()
    _key(tmp_path / "revoked", "user")
    told = failed(dataclasses.replace(server.target, identity=str(tmp_path / "revoked" / "user")))
    assert isinstance(told, errors.ConvergeFailed) and told.seen.startswith("no such folder")
