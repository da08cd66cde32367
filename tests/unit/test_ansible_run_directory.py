"""Without /proc, `ps` finds the processes of a run: one that answers as macOS's does. No such machine was available."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.ansible import run_directory
from tests.support.programs import write_program

MARK = Path("/tmp/fleet-abc")
PROCESSES = f"""    1     0 /sbin/launchd
  501  {os.getpid()} python ansible-playbook site.yml HOME=/Users/a {run_directory.MARK}={MARK} LANG=C
  502   501 sleep 60 {run_directory.MARK}={MARK}
  503     1 ssh: {MARK}/c [mux]
  504     1 python other {run_directory.MARK}={MARK}-of-another-run
  505     1 cat {MARK}/c
  {os.getpid()}  1 python supervisor {run_directory.MARK}={MARK}
"""


@pytest.fixture
def macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "ps", f"cat <<'END'\n{PROCESSES}END")
    monkeypatch.setattr(run_directory, "PROC", tmp_path / "no-proc")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("macos")
def test_ps_finds_the_processes_of_a_run() -> None:
    assert run_directory.processes(MARK) == [501, 502, 503]


@pytest.mark.usefixtures("macos")
def test_ps_finds_children() -> None:
    assert [(pid, "ansible-playbook" in command) for pid, command in run_directory.children()] == [(501, True)]


def test_children_have_their_command() -> None:
    program = "print('there', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() == b"there\n"
        assert "input()" in dict(run_directory.children())[child.pid]
        child.communicate(b"\n")


def test_a_thread_that_ends_during_the_reading_hides_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task, children in (("1", None), ("2", "77 78")):
        (tmp_path / "self" / "task" / task).mkdir(parents=True)
        if children:
            (tmp_path / "self" / "task" / task / "children").write_text(children)
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "cmdline").write_bytes(b"sleep\x0060\0")
    monkeypatch.setattr(run_directory, "PROC", tmp_path)
    assert run_directory.children() == [(77, "sleep 60 ")]
