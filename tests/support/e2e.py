"""The road under test: a copy of the project with its own Pulumi state and its own lab, driven by the real `pulumi`.

Needs the bootstrap (venv, Pulumi, a Docker engine, the lab's images). Used by tests/e2e, tests/faults and the benchmarks. The copy keeps the
tests from the user's stack files and state; the lab's name keeps them from the user's lab.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from tests.support.environment import forget_secrets, user_environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK = "lab"
NODES = ("glm-1", "glm-2")  # of that stack
UP = 1500  # seconds: the bound of one `pulumi up`, far above what it takes on a loaded machine
BACK = 600  # seconds until a replica that starts by itself must run


def copy_project(to: pathlib.Path) -> None:
    """Copy what git tracks or would track, so that nothing built or local comes along; the virtualenv is shared."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)
    (to / ".venv").symlink_to(ROOT / ".venv")


@contextlib.contextmanager
def stand(home: pathlib.Path, lab: str) -> Iterator["Road"]:
    """Make a copy of the project with an empty stack; whatever was deployed from it is gone afterwards."""
    road = Road(home, lab)
    made = road.run("bootstrap/stack.sh", STACK)
    assert made.returncode == 0, made.stdout
    yield road
    gone = road.pulumi("destroy", "--yes", "--skip-preview")
    assert gone.returncode == 0, gone.stdout


class Road:
    """One stack in one copy of the project."""

    def __init__(self, home: pathlib.Path, lab: str):
        self.home = home
        self.lab = lab
        copy_project(home)
        forget_secrets(home)
        stack = home / "stacks" / f"Pulumi.{STACK}.yaml"
        text, found = re.subn(r"(?m)^(\s+)source: lab$", rf"\g<0>\n\g<1>name: {lab}", stack.read_text())
        assert found == 1, "the lab's stack file names its source once"
        stack.write_text(text)
        self.env = user_environment(home)
        self._length = 8192

    def run(self, *command: str, timeout: float = 300, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; output of both streams together, colours off."""
        return subprocess.run(
            command, cwd=self.home, env={**self.env, "NO_COLOR": "1"}, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=stdin,
        )  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The same in the background, in a session of its own, for tests that interrupt it."""
        return subprocess.Popen(
            command, cwd=self.home, env={**self.env, "NO_COLOR": "1"}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def pulumi(self, *arguments: str, timeout: float = UP) -> subprocess.CompletedProcess[str]:
        return self.run("pulumi", *arguments, "--stack", STACK, "--color", "never", timeout=timeout)

    def up_command(self, *more: str) -> tuple[str, ...]:
        return (
            "pulumi",
            "up",
            "--yes",
            "--skip-preview",
            "--continue-on-error",
            "--policy-pack",
            "policies",
            "--stack",
            STACK,
            "--color",
            "never",
            *more,
        )

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.up_command(*more), timeout=UP)

    def preview(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.pulumi("preview", "--policy-pack", "policies", *more)

    def outputs(self) -> Any:
        return json.loads(self.run("pulumi", "stack", "output", "--json", "--show-secrets", "--stack", STACK).stdout)

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the stack's state."""
        state = json.loads(self.run("pulumi", "stack", "export", "--stack", STACK).stdout)
        found: list[dict[str, Any]] = state["deployment"].get("resources", [])
        return found

    def paste(self) -> str:
        """What the model answers to the two lines that `fleet show` ends with, pasted into two shells."""
        forward, ask = self.run("fleet", "show", "-s", STACK).stdout.strip().splitlines()[-2:]
        tunnel = self.start("bash", "-c", forward)
        try:
            assert tunnel.stdout is not None
            first = tunnel.stdout.readline()
            assert first.startswith("glm-1/glm-0 answers at http://127.0.0.1:8000 "), first
            answer = self.run("bash", "-c", ask).stdout
            body = json.loads(answer[answer.index("{") :])
        finally:
            os.killpg(tunnel.pid, signal.SIGTERM)
            tunnel.wait(20)
        assert "choices" in body, body
        return str(body["choices"][0]["message"]["content"]).strip()

    def set(self, path: str, value: str) -> None:
        done = self.pulumi("config", "set", "--path", path, value)
        assert done.returncode == 0, done.stdout

    def set_secret(self, name: str, value: str) -> None:
        """As the README says it: by stdin, so that it stands in no list of processes."""
        done = self.run("pulumi", "config", "set", "--secret", name, "--stack", STACK, stdin=value)
        assert done.returncode == 0, done.stdout

    def another_length(self) -> str:
        """A max-model-len that neither the stack file (a user may have changed it) nor any node has: setting it is a change."""
        taken = (self.home / "stacks" / f"Pulumi.{STACK}.yaml").read_text()
        self._length -= 256
        while str(self._length) in taken:
            self._length -= 256
        return str(self._length)

    def remove(self, path: str) -> None:
        done = self.pulumi("config", "rm", "--path", path)
        assert done.returncode == 0, done.stdout

    def on(self, node: str, command: str) -> str:
        """A command on a node, through the lab's engine (not SSH, so that the tests do not use what they test)."""
        done = self.run("docker", "exec", f"{self.lab}-{node}", "bash", "-c", command, timeout=660)
        assert done.returncode == 0, f"{node}: {command}: {done.stdout}"
        return done.stdout.strip()

    def reboot(self, node: str) -> None:
        """Reboot a node as a power button does."""
        done = self.run("docker", "restart", "-t", "30", f"{self.lab}-{node}")
        assert done.returncode == 0, done.stdout

    def serves_again(self, node: str, seconds: int = BACK, replicas: Iterable[str] = ("glm-0",)) -> None:
        """Wait until the node's replicas run: after a reboot, or a restart of its engine, they start by themselves."""
        for name in replicas:
            active = f"systemctl is-active -q {name}.service"
            self.on(node, f"timeout {seconds} sh -c 'until {active}; do sleep 1; done' 2>/dev/null")

    def left_overs(self) -> dict[str, str]:
        """What of this lab is still on the machine, by kind; all empty after a destroy."""
        label = f"label=glm-fleet-lab={self.lab}"
        look = {
            "containers": ["docker", "ps", "-aq", "--filter", label],
            "volumes": ["docker", "volume", "ls", "-q", "--filter", label],
            "networks": ["docker", "network", "ls", "-q", "--filter", label],
        }
        left = {
            kind: subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            for kind, command in look.items()
        }
        home = str(self.home)
        left["mounts"] = "\n".join(
            line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if home in line
        )
        left["processes"] = "\n".join(process for process in processes() if home in process)
        return left


def processes() -> list[str]:
    """'pid folder command line' of every process but this one and Pulumi's language hosts; the folder is the one that it works in.

    A language host looks every five minutes whether its engine is still there; it knows no machine.
    """
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                folder = (entry / "cwd").readlink()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked, or is one of the kernel's
            except PermissionError:
                folder = pathlib.Path("?")  # not even root may look there: of a sandbox, and none of ours
            if line and "/pulumi-language-python" not in line:
                found.append(f"{entry.name} {folder} {line}")
    return found


def foretold(text: str) -> list[str]:
    """The lines with which a preview ends; how long something takes was measured, and is another each time."""
    ended = text.partition("\nDiagnostics:\n")[2]
    return re.sub(r"about \d+ (s|min)( to \d+ (s|min))?", "about N s", ended).replace("    ", "").splitlines()


def boots(road: Road) -> dict[str, str]:
    """The boot that each node is in."""
    return {node: road.on(node, "cat /proc/sys/kernel/random/boot_id") for node in NODES}
