"""A machine whose first host key travelled in clear shows another one after its first connection: fleet/ssh/rekey.py."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ssh import rekey
from tests.support.ssh_server import Server, make_key, public


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Server]:
    """A machine that shows the host key of its own /etc/ssh."""
    (tmp_path / "disk" / "etc" / "ssh").mkdir(parents=True)
    server = Server(tmp_path, root=tmp_path / "disk")
    yield server
    server.close()


@pytest.fixture
def final(tmp_path: Path) -> rekey.FinalKey:
    return rekey.FinalKey(public(make_key(tmp_path, "final")), (tmp_path / "final").read_text())


def meet(machine: Server, first: ssh.Target, final: rekey.FinalKey) -> ssh.Target:
    return rekey.wait_with_final_key(first, final, 10, lambda _: None, threading.Event())


def test_the_first_connection_brings_the_final_key_and_pins_it(
    machine: Server, final: rekey.FinalKey, tmp_path: Path
) -> None:
    first = machine.target
    second = meet(machine, first, final)
    assert second.host_key == final.public
    file = tmp_path / "disk" / "etc" / "ssh" / "ssh_host_ed25519_key"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (final.private, 0o600)
    with ssh.connect(second) as connection:
        assert connection.run("true").rc == 0
    with pytest.raises(errors.HostKeyMismatch), ssh.connect(first):
        pass


def test_a_run_continues_where_one_ended_before_it_could_record_the_key(machine: Server, final: rekey.FinalKey) -> None:
    meet(machine, machine.target, final)
    before = len(machine.commands)
    assert meet(machine, machine.target, final).host_key == final.public
    assert machine.commands[before:] == []


def test_a_machine_with_neither_key_gets_none(machine: Server, final: rekey.FinalKey, tmp_path: Path) -> None:
    stranger = rekey.dataclasses.replace(machine.target, host_key=public(make_key(tmp_path, "stranger")))
    with pytest.raises(errors.HostKeyMismatch):
        meet(machine, stranger, final)
    assert machine.commands == []


def test_a_key_that_cannot_be_written_fails_in_a_message_without_the_key(
    machine: Server, final: rekey.FinalKey, tmp_path: Path
) -> None:
    (tmp_path / "disk" / "etc" / "ssh").rmdir()
    with pytest.raises(errors.CommandFailed) as caught:
        meet(machine, machine.target, final)
    assert str(caught.value).startswith("glm-1: install its final host key in /etc/ssh: FileNotFoundError: ")
    assert "PRIVATE KEY" not in str(caught.value)
