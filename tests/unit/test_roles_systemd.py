"""A systemd that gives no answer for a while, as on a node that writes gigabytes, is not taken for a unit that is not there.

The scripts that nodes run are run here as there, each as a program of its own, beside a systemctl that answers as a test says.
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
WATCHES = {
    "long_task": (
        ROOT / "roles/long_task/files/long_task.py",
        ["watch"],
        JOB,
        "SubState=exited\nActiveState=active\nInactiveExitTimestampMonotonic=1",
    ),
    "replicas": (
        ROOT / "roles/vllm/files/replicas.py",
        ["watch", "glm-0"],
        {},
        "SubState=running\nActiveState=active\nNRestarts=0",
    ),
}
READS = {
    "vllm": ROOT / "roles/vllm/files/read.py",
    "managed": ROOT / "fleet/managed/on_node_read.py",
}


def run(folder: pathlib.Path, silent: int, file: pathlib.Path, words: list[str], given: Any, says: str = "") -> Any:
    """Run a script beside a systemctl that gives no answer `silent` times, and then `says` something."""
    (folder / "systemctl").write_text(
        f"#!/bin/sh\n[ $1 = show ] || exit 0\necho >>{folder}/asked\n"
        f"[ $(wc -l <{folder}/asked) -le {silent} ] || {{ printf '{says}\\n'; exit 0; }}\necho '{BUSY}' >&2\nexit 1\n"
    )
    (folder / "journalctl").write_text("#!/bin/sh\n")
    for name in ("systemctl", "journalctl"):
        (folder / name).chmod(0o755)
    text = file.read_text() + ('main(["unit glm-0.service"])\n' if file.name == "on_node_read.py" else "")
    return subprocess.run(
        [sys.executable, "-c", text, *words],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )


@pytest.mark.parametrize("what", WATCHES)
def test_a_watch_goes_on_once_systemd_answers_again(tmp_path: pathlib.Path, what: str) -> None:
    file, words, given, says = WATCHES[what]
    done = run(tmp_path, 2, file, words, given, says)
    assert json.loads(done.stdout)["state"] == "done", done.stderr


@pytest.mark.parametrize("what", WATCHES)
def test_a_watch_that_gets_no_answer_ends_with_what_systemctl_said(tmp_path: pathlib.Path, what: str) -> None:
    file, words, given, _ = WATCHES[what]
    done = run(tmp_path, 99, file, words, given)
    assert done.returncode == 1
    assert done.stderr.startswith("systemctl show ") and f": {BUSY} (4 tries)\nwanted: " in done.stderr


def test_the_answer_is_there_before_the_unit_is_let_go(tmp_path: pathlib.Path) -> None:
    """Ansible may lose what a command says as it ends; of a unit that was let go nobody can ask again."""
    done = run(tmp_path, 0, *WATCHES["long_task"])  # leaves its systemctl
    assert json.loads(done.stdout)["state"] == "done"
    tool = tmp_path / "systemctl"
    tool.write_text(
        tool.read_text().replace(
            "[ $1 = show ] ||", f"[ $1 = show ] || until [ -e {tmp_path}/go ]; do sleep 0.05; done\n[ $1 = show ] ||", 1
        )
    )
    file, words, given, _ = WATCHES["long_task"]
    watching = subprocess.Popen(
        [sys.executable, "-c", file.read_text(), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert watching.stdin and watching.stdout
    watching.stdin.write(json.dumps(given))
    watching.stdin.close()
    assert json.loads(watching.stdout.readline())["state"] == "done"
    assert watching.poll() is None  # systemctl stop is still at work
    (tmp_path / "go").touch()
    assert watching.wait(20) == 0


def test_work_that_systemd_does_not_start_is_told_in_its_words(tmp_path: pathlib.Path) -> None:
    says = "Failed to start transient service unit: Access denied"
    (tmp_path / "systemd-run").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    (tmp_path / "systemd-run").chmod(0o755)
    file, _, given, _ = WATCHES["long_task"]
    done = run(tmp_path, 0, file, ["start"], given, "SubState=dead\\nActiveState=inactive")
    assert done.returncode == 1
    assert done.stderr.startswith("systemd-run fleet-pull-") and f": {says}\nwanted: " in done.stderr


def test_work_that_systemd_is_just_ending_is_judged_when_it_has_ended(tmp_path: pathlib.Path) -> None:
    """A pull that is over its bound takes seconds to stop: that is no work that somebody stopped from outside."""
    end = "Result=timeout\\nInactiveExitTimestampMonotonic=1"
    ending, ended = (
        f"SubState=stop-sigterm\\nActiveState=deactivating\\n{end}",
        f"SubState=failed\\nActiveState=failed\\n{end}",
    )
    says = f"$([ $(wc -l <{tmp_path}/asked) -le 3 ] && printf '{ending}' || printf '{ended}')"
    done = run(tmp_path, 0, *WATCHES["long_task"][:3], f"'\"{says}\"'")
    assert json.loads(done.stdout) == {
        "state": "failed",
        "text": "ended without output (timeout)\nstopped by systemd: it ran longer than its timeout",
    }, done.stderr


@pytest.mark.parametrize("what", READS)
def test_a_unit_of_which_systemd_says_nothing_is_not_read_as_stopped_or_absent(
    tmp_path: pathlib.Path, what: str
) -> None:
    done = run(tmp_path, 99, READS[what], [], MODEL)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("systemctl show") and BUSY in done.stderr


PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: long_task
      vars: {long_task_verb: pull, long_task_doing: pull the image, long_task_command: ["true"], long_task_timeout: 9, long_task_wanted: the image, long_task_next: look}
"""


@pytest.mark.slow
def test_a_poll_that_fails_ends_the_task_with_its_own_words(tmp_path: pathlib.Path) -> None:
    """`until` is asked before Ansible sees that the command failed: it must not fall over an empty answer."""
    run(tmp_path, 1, *WATCHES["long_task"][:3])  # leaves its systemctl: from now on that answers
    tool = tmp_path / "systemctl"
    tool.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/begun ] && echo '{BUSY}' >&2 && exit 1\ntouch {tmp_path}/begun\necho SubState=dead\n"
    )
    (tmp_path / "systemd-run").write_text("#!/bin/sh\n")
    (tmp_path / "systemd-run").chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY)
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
        },
    )
    assert done.returncode == 2
    assert f"{BUSY} (4 tries)" in done.stdout + done.stderr
    assert "from_json" not in done.stdout + done.stderr
