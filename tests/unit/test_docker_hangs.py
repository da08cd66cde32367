"""A Docker daemon that hangs gives no answer for ever: each script that runs on a node gives it up, and names the call and the container.

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

ROOT = Path(__file__).parents[2]
TARGET = ssh.Target("glm-1", "192.0.2.11")
# Script: words, what it gets on stdin, the call that hangs.
SCRIPTS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "playbooks/files/baseline.py": (
        [],
        {"record": "RECORD", "write": False, "files": [], "sysctls": [], "ours": "/none"},
        "docker image ls --quiet --no-trunc",
    ),
    "playbooks/files/undo.py": ([], {"containers": ["glm-1"]}, "docker rm --force glm-1"),
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
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def impatient(text: str) -> str:
    """The script with limits of half a second."""
    return re.sub(r"(?m)^((?:DOCKER|DOCKER_REMOVES|LIMIT|ONE)(?:, \w+)?) = .*", lambda found: short(found[1]), text)


def short(names: str) -> str:
    return f"{names} = {', '.join(['0.5'] * len(names.split(', ')))}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_a_node_gives_a_daemon_that_hangs_up_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    words, given, call = SCRIPTS[name]
    given = {key: str(tmp_path / "record") if value == "RECORD" else value for key, value in given.items()}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", impatient((ROOT / name).read_text()), *words],
        input=json.dumps(given),
        env=programs(tmp_path, ""),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert time.monotonic() - began < 15
    assert (done.returncode, done.stderr) == (
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
        done = subprocess.run(
            command.replace("/usr/bin/python3", sys.executable),
            shell=True, input=impatient(stdin), env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ssh.Result(done.returncode, done.stdout, done.stderr)


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


def test_a_systemd_that_hangs_is_named(tmp_path: Path) -> None:
    environment = programs(tmp_path, "nothing")
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    connection: Any = Local(environment)
    with pytest.raises(errors.DriftUnreadable) as caught:
        reader.read(connection, managed_set.Declared({"unit glm-0.service": True}))
    assert caught.value.seen == "`systemctl show` gave no answer within 0.5 s"
    assert caught.value.next == "reboot glm-1; then `pulumi up` goes on where this stopped"


def test_a_verification_names_the_container_that_docker_hangs_on(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    asked = {"manifest": str(tmp_path / "manifest.json"), "recorded": "", "containers": {"glm-1": "sha256:1"}}
    script = impatient((ROOT / "fleet/managed/on_node_verify_weights.py").read_text())
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nmain({asked!r})"],
        env=programs(tmp_path, " glm-1 "), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "`docker inspect` of glm-1 gave no answer within 0.5 s: restart Docker there, or reboot the node\n"
    )


def test_every_call_to_docker_on_a_node_is_bounded() -> None:
    """A script that calls docker has a limit for it; in a unit, `timeout` or systemd's own limit for a stop has."""
    scripts = [
        *ROOT.glob("roles/*/files/*.py"),
        *ROOT.glob("playbooks/files/*.py"),
        *ROOT.rglob("fleet/**/on_node_*.py"),
    ]
    calling = [file for file in scripts if re.search(r"[\[(]\s*\"docker\"", file.read_text())]
    assert len(calling) >= len(SCRIPTS) + 2, "the scripts that call docker have moved: correct the folders here"
    unbounded = [str(file) for file in calling if "timeout=" not in file.read_text()]
    assert unbounded == [], "give each subprocess.run of docker a `timeout=`"
    unit = (ROOT / "roles/vllm/templates/replica.service.j2").read_text()
    calls = re.findall(r"(?m)^(Exec\w+)=-?(\S+).*?docker (\w+)", unit)
    assert {(key, verb) for key, program, verb in calls if program != "/usr/bin/timeout"} == {
        ("ExecStart", "run"),
        ("ExecStop", "stop"),
    }
