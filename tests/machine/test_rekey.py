"""A machine whose first host key travelled in clear shows another one after its first connection: fleet/ssh/rekey.py."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ssh import rekey
from tests.support.ssh_server import Server


def pair(folder: Path, name: str) -> tuple[str, str]:
    """Return the public and the private half of a new key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True)
    return " ".join((folder / f"{name}.pub").read_text().split()[:2]), (folder / name).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Server]:
    """A machine that shows the host key of its own /etc/ssh."""
    (tmp_path / "disk" / "etc" / "ssh").mkdir(parents=True)
    server = Server(tmp_path, root=tmp_path / "disk")
    yield server
    server.close()


@pytest.fixture
def final(tmp_path: Path) -> rekey.FinalKey:
    return rekey.FinalKey(*pair(tmp_path, "final"))


def meet(machine: Server, first: ssh.Target, final: rekey.FinalKey) -> ssh.Target:
    return rekey.wait_with_final_key(first, final, 10, lambda _: None, threading.Event())


def test_the_first_connection_brings_the_final_key_and_pins_it(
    machine: Server, final: rekey.FinalKey, tmp_path: Path
) -> None:
    first = machine.target
    met = meet(machine, first, final)
    assert met.host_key == final.public
    kept = tmp_path / "disk" / "etc" / "ssh" / "ssh_host_ed25519_key"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (final.private, 0o600)
    with ssh.connect(met) as connection:
        assert connection.run("true").rc == 0
    with pytest.raises(errors.HostKeyMismatch), ssh.connect(first):
        pass


def test_a_run_that_ended_before_it_could_say_so_is_gone_on_with(machine: Server, final: rekey.FinalKey) -> None:
    meet(machine, machine.target, final)
    before = len(machine.commands)
    assert meet(machine, machine.target, final).host_key == final.public
    assert machine.commands[before:] == []  # nothing more is put there


def test_a_machine_with_neither_key_gets_none(machine: Server, final: rekey.FinalKey, tmp_path: Path) -> None:
    stranger = rekey.dataclasses.replace(machine.target, host_key=pair(tmp_path, "stranger")[0])
    with pytest.raises(errors.HostKeyMismatch):
        meet(machine, stranger, final)
    assert machine.commands == []


def test_a_key_that_cannot_be_put_there_is_told_and_does_not_show_itself(
    machine: Server, final: rekey.FinalKey, tmp_path: Path
) -> None:
    (tmp_path / "disk" / "etc" / "ssh").rmdir()
    with pytest.raises(errors.CommandFailed) as caught:
        meet(machine, machine.target, final)
    assert str(caught.value).startswith("glm-1: install its final host key in /etc/ssh: FileNotFoundError: ")
    assert "PRIVATE KEY" not in str(caught.value)
