"""Claims about one Ansible run on a real node: its outcome, its failures in words, and that it leaves nothing behind."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ansible import converge, run_directory
from fleet.drift import Difference
from fleet.managed import differences, managed_set, reader
from tests.support.kinds_run import KEY, Run, job, run
from tests.support.ssh_server import Server, make_key, public

pytestmark = pytest.mark.docker


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "run.log"


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a private folder or a process of a run, however it ended. Other runs on this machine do not count."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/dev/shm") as own:  # a short path, for the sockets in it
        monkeypatch.setenv("XDG_RUNTIME_DIR", own)
        yield
        assert _left() == ([], [])


def test_a_run_returns_its_results_its_counts_and_its_declarations(first_run: Run) -> None:
    outcome = first_run.outcome
    assert outcome.results == {"fleet_kinds": {"text": "hello"}}
    assert outcome.changed > 0
    assert set(outcome.seconds) == {"kinds"}
    assert {"file /etc/kinds/text", "unit kinds.service", "package openssh-server"} <= set(outcome.declared.things)
    assert converge.Note("kinds: Ensure the units (2 items): changed", ephemeral=False) in first_run.notes


def drift(target: ssh.Target, again: Run, expected: managed_set.State) -> list[Difference]:
    return differences.drift(expected, reader.read_many(target, [again.outcome.declared])[0])


def test_a_second_run_changes_nothing_and_finds_no_drift(
    node: ssh.Target, log: Path, expected: managed_set.State
) -> None:
    again = run(job(node, log))
    assert (again.outcome.changed, [note for note in again.notes if not note.ephemeral]) == (0, [])
    assert drift(node, again, expected) == []


def test_a_user_with_sudo_does_the_same_as_root(node: ssh.Target, log: Path, expected: managed_set.State) -> None:
    ops = dataclasses.replace(node, user="ops", become=True)
    again = run(job(ops, log))
    assert (again.outcome.changed, drift(ops, again, expected)) == (0, [])


def test_a_run_reaches_a_node_through_its_bastion(
    node: ssh.Target, log: Path, expected: managed_set.State, server: Server
) -> None:
    behind = dataclasses.replace(node, bastion=dataclasses.replace(server.target, name=f"{node.name}.bastion"))
    again = run(job(behind, log))
    assert (again.outcome.changed, server.connections) == (0, 1)
    assert (drift(behind, again, expected), server.connections) == ([], 2)


def test_check_mode_reports_changes_and_makes_none(node: ssh.Target, log: Path, first_run: Run) -> None:
    check = run(dataclasses.replace(job(node, log, kinds_text="other"), check=True))
    assert check.outcome.changed == 1
    assert converge.Note("kinds: Ensure files (3 items): changed", ephemeral=False) in check.notes
    assert "+other" in log.read_text()
    with ssh.connect(node) as connection:
        assert connection.run("cat /etc/kinds/text").stdout == "hello\n"


def test_the_log_has_ansible_s_text_and_ends_with_the_counts(first_run: Run) -> None:
    text = first_run.job.log.read_text()
    assert "TASK [kinds : Ensure a folder]" in text
    assert "\x1b" not in text
    assert text.splitlines()[-1].startswith("ok ")
    assert first_run.job.log.stat().st_mode & 0o777 == 0o600


def test_a_run_reports_polls_while_they_last(node: ssh.Target, log: Path) -> None:
    notes = run(job(node, log, "slow", slow_does="poll")).notes
    polls = [note.text.split(" (")[0] for note in notes if " of 4" in note.text]
    assert polls == ["slow: 1 of 4", "slow: 2 of 4", "slow: 3 of 4"]


def test_a_failed_assertion_ends_in_its_own_words_and_keeps_the_declarations(node: ssh.Target, log: Path) -> None:
    with pytest.raises(errors.ConvergeFailed) as caught:
        run(job(node, log, "slow", slow_does="fail"))
    assert str(caught.value) == (
        f"{node.name}: slow: Ensure it is whole: the thing is broken\n"
        "  wanted: a whole thing\n"
        "  next:   mend it\n"
        f"          see {log}; `pulumi up` goes on where this stopped"
    )
    assert list(caught.value.partial) == ["file /etc/slow"]


def test_a_failed_command_reports_its_exit_code_and_last_line(node: ssh.Target, log: Path) -> None:
    with pytest.raises(errors.ConvergeFailed) as caught:
        run(job(node, log, "slow", slow_does="command"))
    assert caught.value.seen == "exit code 3\ntwo"


def test_a_playbook_that_does_not_parse_reports_ansible_s_reason(node: ssh.Target, log: Path) -> None:
    with pytest.raises(errors.ConvergeFailed, match="ERROR"):
        run(job(node, log, "no-such-playbook"))


def test_a_secret_is_in_no_log_no_event_no_argument_and_no_file(node: ssh.Target, log: Path) -> None:
    texts: list[str] = []

    def look(note: converge.Note) -> None:
        texts.append(note.text)
        for pid in _processes():
            with contextlib.suppress(OSError):
                texts.append(Path(f"/proc/{pid}/cmdline").read_text())
        for path in (path for folder in _folders() for path in folder.rglob("*")):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(errors="replace") if path.is_file() else "")

    with pytest.raises(errors.ConvergeFailed) as caught:
        converge.converge(job(node, log, "slow", slow_does="leak"), look, threading.Event())
    assert "the key is (secret)" in str(caught.value)
    assert any("ansible-playbook" in text for text in texts)
    assert KEY not in "".join([*texts, log.read_text(), str(caught.value)])


def test_a_stranger_s_host_key_is_refused(node: ssh.Target, log: Path, tmp_path: Path) -> None:
    stranger = dataclasses.replace(node, host_key=public(make_key(tmp_path, "key")))
    with pytest.raises(errors.HostKeyMismatch):
        run(job(stranger, log))


def test_a_node_that_refuses_connections_is_unreachable(node: ssh.Target, log: Path) -> None:
    with pytest.raises(errors.Unreachable):
        run(job(dataclasses.replace(node, port=1), log))


def test_a_cancel_ends_everything_within_ten_seconds_and_stops_the_long_task(node: ssh.Target, log: Path) -> None:
    cancelled = threading.Event()
    start: list[float] = []

    def cancel_when_it_waits(note: converge.Note) -> None:
        if "Ensure it is waited for" in note.text and not cancelled.is_set():
            start.append(time.monotonic())
            cancelled.set()

    with pytest.raises(errors.Cancelled) as caught:
        converge.converge(job(node, log, "slow", slow_does="sleep"), cancel_when_it_waits, cancelled)
    assert time.monotonic() - start[0] < 10
    assert caught.value.partial
    with ssh.connect(node) as connection:
        assert connection.run("systemctl is-active fleet-slow.service").stdout.strip() == "inactive"


def test_a_run_that_takes_too_long_ends_by_itself(node: ssh.Target, log: Path) -> None:
    late = dataclasses.replace(job(node, log, "slow", slow_does="sleep"), timeout=8)
    with pytest.raises(errors.ConvergeFailed, match="no end within 8 s"):
        run(late)


PARENT = """
import json, sys, threading
from pathlib import Path
from fleet import ssh
from fleet.ansible import converge
fields = json.loads(sys.argv[1])
job = converge.Job(ssh.Target(**fields.pop("target")), Path(fields.pop("playbook")), log=Path(fields.pop("log")), **fields)
converge.converge(job, lambda note: print(note.text, flush=True), threading.Event())
"""


@pytest.mark.parametrize("victim", ["the parent", "the supervisor"])
def test_kill_9_leaves_nothing(node: ssh.Target, log: Path, victim: str) -> None:
    fields = dataclasses.asdict(job(node, log, "slow", slow_does="sleep"))
    fields |= {"playbook": str(fields["playbook"]), "log": str(log)}
    command = [sys.executable, "-c", PARENT, json.dumps(fields)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout
        for line in parent.stdout:
            if "Ensure it is waited for" in line:
                break
        os.kill(parent.pid if victim == "the parent" else _supervisor(), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _left() != ([], []) and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    assert _left() == ([], [])


def _processes() -> list[int]:
    """Return the pids of this test's runs, without zombies that wait for PID 1."""
    return [pid for folder in _folders() for pid in run_directory.processes(folder)]


def _supervisor() -> int:
    return next(pid for pid in _processes() if b"fleet.ansible.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes())


def _folders() -> list[Path]:
    """Return the private folders of this test's runs."""
    return list(Path(os.environ["XDG_RUNTIME_DIR"]).glob("fleet-*"))


def _left() -> tuple[list[Path], list[int]]:
    """Return what is left of this test's runs: folders, processes (which keep the mark of a folder that is gone)."""
    mark = f"{run_directory.MARK}={os.environ['XDG_RUNTIME_DIR']}/".encode()
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes():
                processes.append(int(entry.name))
    return _folders(), processes
