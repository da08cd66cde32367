"""Each script that runs on a node gives up a Docker daemon that hangs, and names the call and the container.

The scripts run here as on a node, beside a stand-in docker that hangs on the container glm-1 (or on everything) and systemd's answer.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.managed import managed_set, reader
from tests.support.programs import write_program

ROOT = Path(__file__).parents[2]
TARGET = ssh.Target("glm-1", "192.0.2.11")
# Script: arguments, stdin, the call that hangs.
SCRIPTS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "playbooks/files/baseline.py": (
        [],
        {"record": "RECORD", "write": False, "files": [], "sysctls": [], "ours": "/none"},
        "docker image ls --quiet --no-trunc",
    ),
    "playbooks/files/revert.py": ([], {"containers": ["glm-1"]}, "docker rm --force glm-1"),
    "playbooks/files/teardown.py": ([], {"containers": ["glm-1"]}, "docker rm --force glm-1"),
    "playbooks/files/acceptance.py": (["look"], {"image": "x"}, "docker info"),
    "roles/vllm/files/read.py": (
        [],
        {"image": "x", "model": "/", "template": "", "mark": "#", "units": [], "ports": []},
        "docker image inspect x",
    ),
    "roles/transformers/files/read.py": (
        [],
        {"base": "a", "tag": "b", "registry": "", "recipe_label": "", "recipe": ""},
        "docker version --format {{.Server.Version}}",
    ),
}
UNIT = (
    "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"
    "ExecStart={ path=/usr/bin/docker ; argv[]=/usr/bin/docker run --rm --name=NAME x ; }\n"
)


def programs(folder: Path, hangs_on: str) -> dict[str, str]:
    """Put docker, systemctl and dpkg-query into a folder; return an environment that finds them first."""
    units = "\n".join(UNIT.replace("NAME", name) for name in ("glm-0", "glm-1"))
    scripts = {
        "docker": f'case " $* " in *"{hangs_on}"*) exec sleep 60 ;; esac\necho "[]"',
        "systemctl": f"[ $1 = show ] || exit 0\ncat <<'END'\n{units}\nEND",
        "dpkg-query": "true",
    }
    for name, script in scripts.items():
        write_program(folder / name, script)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def with_short_limits(script: str) -> str:
    """Return the script with limits of half a second."""
    script = re.sub(r"(?m)^(DOCKER|DOCKER_REMOVES|LIMIT) = .*", r"\1 = 0.5", script)
    return re.sub(r"(?m)^((?:DOCKER|DOCKER_REMOVES|LIMIT), \w+) = .*", r"\1 = 0.5, 0.5", script)


def run(script: str, environment: dict[str, str], *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        input=stdin, env=environment, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_on_a_node_gives_up_a_daemon_that_hangs_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    words, inputs, call = SCRIPTS[name]
    stdin = json.dumps(inputs).replace("RECORD", str(tmp_path / "record"))
    start = time.monotonic()
    result = run(with_short_limits((ROOT / name).read_text()), programs(tmp_path, ""), *words, stdin=stdin)
    assert time.monotonic() - start < 15
    assert (result.returncode, result.stderr) == (
        1,
        f"`{call}` gave no answer within 0.5 s: the Docker daemon hangs\n"
        "wanted: a Docker daemon that answers\n"
        "next: `systemctl restart docker` on the node; where that hangs, too, reboot it\n",
    )


class Local:
    """A connection to a node that is this machine, with the stand-in programs."""

    target = TARGET

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, command: str, stdin: str = "", timeout: float = 60) -> ssh.Result:
        result = subprocess.run(
            command.replace("/usr/bin/python3", sys.executable), shell=True, input=with_short_limits(stdin),
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ssh.Result(result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("hangs_on", "call"), [(" glm-1 ", "docker inspect glm-1"), (" --type=container glm-0 glm-1 ", "docker inspect")]
)
def test_the_reader_names_the_container_that_docker_hangs_on(tmp_path: Path, hangs_on: str, call: str) -> None:
    connection: Any = Local(programs(tmp_path, hangs_on))
    with pytest.raises(errors.DriftUnreadable) as caught:
        reader.read(connection, managed_set.Declared({"unit glm-0.service": True, "unit glm-1.service": True}))
    assert str(caught.value) == (
        f"glm-1: read the managed state: `{call}` gave no answer within 0.5 s: the Docker daemon hangs\n"
        "  wanted: a Docker daemon that answers\n"
        "  next:   ssh -p 22 root@192.0.2.11 systemctl restart docker; where that hangs, too, reboot glm-1;"
        " then `pulumi up` goes on where this stopped"
    )


def test_the_reader_names_a_systemd_that_hangs(tmp_path: Path) -> None:
    connection: Any = Local(programs(tmp_path, "nothing"))
    write_program(tmp_path / "systemctl", "exec sleep 60")
    with pytest.raises(errors.DriftUnreadable) as caught:
        reader.read(connection, managed_set.Declared({"unit glm-0.service": True}))
    assert caught.value.seen == "`systemctl show` gave no answer within 0.5 s"
    assert caught.value.next == "reboot glm-1; then `pulumi up` goes on where this stopped"


def test_a_verification_names_the_container_that_docker_hangs_on(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    inputs = {"manifest": str(tmp_path / "manifest.json"), "recorded": "", "containers": {"glm-1": "sha256:1"}}
    script = with_short_limits((ROOT / "fleet/managed/on_node_verify_weights.py").read_text())
    result = run(f"{script}\nmain({inputs!r})", programs(tmp_path, " glm-1 "))
    assert result.returncode == 1
    assert result.stderr == (
        "`docker inspect` of glm-1 gave no answer within 0.5 s: restart Docker there, or reboot the node\n"
    )


def test_every_call_to_docker_on_a_node_has_a_limit() -> None:
    """A script that calls docker has `timeout=`; a unit has `timeout`, or systemd's own limit for a stop."""
    patterns = ("roles/*/files/*.py", "playbooks/files/*.py", "fleet/**/on_node_*.py")
    scripts = {str(file): file.read_text() for pattern in patterns for file in ROOT.glob(pattern)}
    callers = {file: text for file, text in scripts.items() if re.search(r"[\[(]\s*\"docker\"", text)}
    assert len(callers) >= len(SCRIPTS) + 2, "the scripts that call docker have moved: correct the folders here"
    unlimited = [file for file, text in callers.items() if "timeout=" not in text]
    assert unlimited == [], "give each subprocess.run of docker a `timeout=`"
    unit = (ROOT / "roles/vllm/templates/replica.service.j2").read_text()
    calls = re.findall(r"(?m)^(Exec\w+)=-?(\S+).*?docker (\w+)", unit)
    assert {(key, verb) for key, program, verb in calls if program != "/usr/bin/timeout"} == {
        ("ExecStart", "run"),
        ("ExecStop", "stop"),
    }
