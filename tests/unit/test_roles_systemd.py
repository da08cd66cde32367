"""A systemd that does not answer for a while, as on a node that writes gigabytes, does not count as a unit that is absent.

Each script runs as on a node, as a program of its own, beside a systemctl whose answers the test sets.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BUSY = "Failed to get properties: Connection timed out"
JOB = {"slice": "x.slice", "verb": "pull", "command": ["true"], "environment": {}, "timeout": 9, "tries": 1}
MODEL = {"image": "", "model": "/", "template": "", "mark": "#", "units": ["glm-0"], "ports": []}
LONG_TASK, REPLICAS = ROOT / "roles/long_task/files/long_task.py", ROOT / "roles/vllm/files/replicas.py"
# Each watch: script, arguments, input, and the answer of systemctl with which it ends.
WATCHES = {
    "long_task": (LONG_TASK, ["watch"], JOB, "SubState=exited\nActiveState=active\nConditionTimestampMonotonic=1"),
    "replicas": (REPLICAS, ["watch", "glm-0"], {}, "SubState=running\nActiveState=active\nNRestarts=0"),
}
READS = [ROOT / "roles/vllm/files/read.py", ROOT / "fleet/managed/on_node_read.py"]


def write_command(file: pathlib.Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)


def path(folder: pathlib.Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(
    folder: pathlib.Path, silent: int, file: pathlib.Path, arguments: list[str], query: Any, answer: str = ""
) -> Any:
    """Run a script beside a systemctl that does not answer `silent` times, and then prints `answer`."""
    calls = f"echo >>{folder}/calls\n[ $(wc -l <{folder}/calls) -le {silent} ]"
    reply = f"{{ printf '{answer}\\n'; exit 0; }}\necho '{BUSY}' >&2\nexit 1\n"
    write_command(folder / "systemctl", f"[ $1 = show ] || exit 0\n{calls} || {reply}")
    write_command(folder / "journalctl", "")
    text = file.read_text() + ('main(["unit glm-0.service"])\n' if file.name == "on_node_read.py" else "")
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, input=json.dumps(query), capture_output=True, text=True, env=path(folder))


@pytest.mark.parametrize("watch", WATCHES)
def test_a_watch_goes_on_once_systemd_answers_again(tmp_path: pathlib.Path, watch: str) -> None:
    process = run(tmp_path, 2, *WATCHES[watch])
    assert json.loads(process.stdout)["state"] == "done", process.stderr


@pytest.mark.parametrize("watch", WATCHES)
def test_a_watch_without_an_answer_ends_with_systemctls_message(tmp_path: pathlib.Path, watch: str) -> None:
    process = run(tmp_path, 99, *WATCHES[watch][:3])
    assert process.returncode == 1
    assert process.stderr.startswith("systemctl show ") and f": {BUSY} (4 tries)\nwanted: " in process.stderr


def test_a_watch_prints_its_answer_before_it_stops_the_unit(tmp_path: pathlib.Path) -> None:
    """Ansible may lose the output of a command as it ends; a unit that was stopped cannot be read again."""
    process = run(tmp_path, 0, *WATCHES["long_task"])  # leaves its systemctl
    assert json.loads(process.stdout)["state"] == "done"
    tool = tmp_path / "systemctl"
    block = f"[ $1 = show ] || until [ -e {tmp_path}/go ]; do sleep 0.05; done\n[ $1 = show ] ||"
    tool.write_text(tool.read_text().replace("[ $1 = show ] ||", block, 1))
    command, pipe = [sys.executable, "-c", LONG_TASK.read_text(), "watch"], subprocess.PIPE
    watching = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=path(tmp_path))
    assert watching.stdin and watching.stdout
    watching.stdin.write(json.dumps(JOB))
    watching.stdin.close()
    assert json.loads(watching.stdout.readline())["state"] == "done"
    assert watching.poll() is None  # systemctl stop still runs
    (tmp_path / "go").touch()
    assert watching.wait(20) == 0


def test_a_watch_has_the_output_of_a_command_that_ran_before_systemd_took_it_for_started(
    tmp_path: pathlib.Path,
) -> None:
    """On a busy node the command may end before systemd stamps the unit's start; the stamp of its conditions is always earlier."""
    stamps = {"ConditionTimestampMonotonic": 200, "InactiveExitTimestampMonotonic": 300}
    answer = [
        "SubState=failed",
        "ActiveState=failed",
        "Result=exit-code",
        *(f"{key}={at}" for key, at in stamps.items()),
    ]
    run(tmp_path, 0, *WATCHES["long_task"][:3], "\\n".join(answer))  # leaves its systemctl
    lines = [{"MESSAGE": text, "__MONOTONIC_TIMESTAMP": str(at)} for text, at in (("earlier try", 100), ("wrong", 250))]
    (tmp_path / "lines").write_text("\n".join(map(json.dumps, lines)))
    write_command(tmp_path / "journalctl", f"cat {tmp_path}/lines\n")
    command = [sys.executable, "-c", LONG_TASK.read_text(), "watch"]
    process = subprocess.run(command, input=json.dumps(JOB), capture_output=True, text=True, env=path(tmp_path))
    assert json.loads(process.stdout) == {"state": "failed", "text": "wrong"}, process.stderr


def test_a_task_that_systemd_does_not_start_is_reported_with_its_message(tmp_path: pathlib.Path) -> None:
    message = "Failed to start transient service unit: Access denied"
    write_command(tmp_path / "systemd-run", f"echo '{message}' >&2\nexit 1\n")
    process = run(tmp_path, 0, LONG_TASK, ["start"], JOB, "SubState=dead\\nActiveState=inactive")
    assert process.returncode == 1
    assert process.stderr.startswith("systemd-run fleet-pull-") and f": {message}\nwanted: " in process.stderr


def test_a_watch_waits_for_the_end_of_a_task_that_systemd_is_stopping(tmp_path: pathlib.Path) -> None:
    """A pull that is over its timeout takes seconds to stop: it does not count as stopped from outside."""
    end = "Result=timeout\\nConditionTimestampMonotonic=1"
    stopping = f"SubState=stop-sigterm\\nActiveState=deactivating\\n{end}"
    failed = f"SubState=failed\\nActiveState=failed\\n{end}"
    answer = f"$([ $(wc -l <{tmp_path}/calls) -le 3 ] && printf '{stopping}' || printf '{failed}')"
    process = run(tmp_path, 0, *WATCHES["long_task"][:3], f"'\"{answer}\"'")
    text = "ended without output (timeout)\nstopped by systemd: it ran longer than its timeout"
    assert json.loads(process.stdout) == {"state": "failed", "text": text}, process.stderr


@pytest.mark.parametrize("script", READS, ids=["vllm", "managed"])
def test_a_unit_without_an_answer_of_systemd_is_not_read_as_stopped_or_absent(
    tmp_path: pathlib.Path, script: pathlib.Path
) -> None:
    process = run(tmp_path, 99, script, [], MODEL)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("systemctl show") and BUSY in process.stderr


PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: long_task
      vars: {long_task_verb: pull, long_task_doing: pull the image, long_task_command: ["true"], long_task_timeout: 9, long_task_wanted: the image, long_task_next: look}
"""


@pytest.mark.slow
def test_a_poll_that_fails_ends_the_task_with_its_own_message(tmp_path: pathlib.Path) -> None:
    """Ansible evaluates `until` before it sees that the command failed: an empty answer must be no error there."""
    script = f"[ -e {tmp_path}/again ] && echo '{BUSY}' >&2 && exit 1\ntouch {tmp_path}/again\necho SubState=dead\n"
    write_command(tmp_path / "systemctl", script)
    write_command(tmp_path / "journalctl", "")
    write_command(tmp_path / "systemd-run", "")
    (tmp_path / "play.yml").write_text(PLAY)
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"]
    env = {**path(tmp_path), "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert process.returncode == 2
    assert f"{BUSY} (4 tries)" in process.stdout + process.stderr
    assert "from_json" not in process.stdout + process.stderr
