"""The whole road: a copy of the project with its own Pulumi state and its own lab, driven by the real `pulumi`.

Needs the bootstrap (venv, Pulumi, a Docker Engine, the lab's images). Used by tests/e2e, tests/faults and the benchmarks. The copy protects
the user's stack files and state; the lab's name protects the user's lab.
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

from fleet import probes
from tests.support import load_client
from tests.support.environment import expect_success, forget_secrets, user_environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK = "lab"
NODES = ("glm-1", "glm-2")  # of that stack
UP = 1500  # seconds: the bound of one `pulumi up`, far above what it takes on a loaded machine
BACK = 600  # seconds until a replica that starts by itself must run


def copy_project(to: pathlib.Path) -> None:
    """Copy what git tracks or would track, so nothing built or local; share the virtualenv."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source = ROOT / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)
    (to / ".venv").symlink_to(ROOT / ".venv")


@contextlib.contextmanager
def stand(home: pathlib.Path, lab: str) -> Iterator["Road"]:
    """Make a copy of the project with an empty stack; destroy what was deployed from it afterwards."""
    road = Road(home, lab)
    expect_success(road.run("bootstrap/stack.sh", STACK))
    # On a fast machine the clients of a test ask more often than the default limit of a key allows.
    road.set("glm-fleet:clients.lab.requests_per_minute", "100000")
    yield road
    expect_success(road.destroy())


class Road:
    """One stack in one copy of the project."""

    def __init__(self, home: pathlib.Path, lab: str):
        self.home = home
        self.lab = lab
        copy_project(home)
        forget_secrets(home)
        stack = home / "stacks" / f"Pulumi.{STACK}.yaml"
        text, count = re.subn(r"(?m)^(\s+)source: lab$", rf"\g<0>\n\g<1>name: {lab}", stack.read_text())
        assert count == 1, "the lab's stack file names its source once"
        stack.write_text(text)
        self.env = user_environment(home)
        self._length = 8192

    def run(self, *command: str, timeout: float = 300, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; both streams in one output, no colours."""
        return subprocess.run(
            command, cwd=self.home, env={**self.env, "NO_COLOR": "1"}, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=stdin,
        )  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, for tests that interrupt it."""
        return subprocess.Popen(
            command, cwd=self.home, env={**self.env, "NO_COLOR": "1"}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def pulumi(self, *arguments: str, timeout: float = UP) -> subprocess.CompletedProcess[str]:
        return self.run("pulumi", *arguments, "--stack", STACK, "--color", "never", timeout=timeout)

    def up_command(self, *more: str) -> tuple[str, ...]:
        options = f"--yes --skip-preview --continue-on-error --policy-pack policies --stack {STACK} --color never"
        return ("pulumi", "up", *options.split(), *more)

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.up_command(*more), timeout=UP)

    def preview(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.pulumi("preview", "--policy-pack", "policies", *more)

    def destroy(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.pulumi("destroy", "--yes", "--skip-preview", *more)

    def expect_no_changes(self) -> None:
        """Require that a preview with a refresh is empty."""
        expect_success(self.preview("--refresh", "--expect-no-changes"))

    def outputs(self) -> Any:
        return json.loads(self.run("pulumi", "stack", "output", "--json", "--show-secrets", "--stack", STACK).stdout)

    def resources(self, *options: str) -> list[dict[str, Any]]:
        """Return the resources of the stack's state; with --show-secrets their secrets as they are."""
        export = expect_success(self.run("pulumi", "stack", "export", *options, "--stack", STACK))
        resources: list[dict[str, Any]] = json.loads(export, object_hook=opened)["deployment"].get("resources", [])
        return resources

    def clients(self, folder: pathlib.Path, workers: int = 4, tokens: int = load_client.LONG) -> load_client.Load:
        """Return clients of the endpoint, who ask while the context lasts; `folder` gets their files, `tokens` is of the longest streams."""
        outputs = self.outputs()
        authority = folder / "ca.pem"
        authority.write_text(outputs["authority"])
        served = [each for each in outputs["replicas"].values() if each]
        name = outputs["endpoint"].removeprefix("https://").partition("/")[0]
        addresses = [each["connection"]["address"] for each in served]
        key = (self.home / ".pulumi" / "lab" / "lab.key").read_text().strip()
        picture = probes.load(["bottle-grounding"])[0].body(served[0]["replicas"][0]["model"])
        target = load_client.Target(name, addresses, 443, str(authority), key, picture, tokens)
        return load_client.Load(target, folder, workers)

    def paste(self) -> str:
        """Paste the lines of `fleet show` that make a client's files and ask the gateway, and return the model's answer."""
        lines = self.run("fleet", "show", "-s", STACK).stdout.splitlines()
        files, ask = (next(line for line in lines if line.startswith(word)) for word in ("eval ", "curl "))
        expect_success(self.run("bash", "-c", files))
        answer = expect_success(self.run("bash", "-c", ask))
        body = json.loads(answer[answer.index("{") :])
        assert "choices" in body, body
        return str(body["choices"][0]["message"]["content"]).strip()

    @contextlib.contextmanager
    def forwarded(self, replica: str) -> Iterator[str]:
        """Run `fleet forward` to a replica, and yield the URL that it prints."""
        tunnel = self.start("fleet", "forward", "-s", STACK, replica, "--port", "0")
        try:
            assert tunnel.stdout is not None
            words = tunnel.stdout.readline().split()
            assert words[:3] == [replica, "answers", "at"], words
            yield words[3]
        finally:
            os.killpg(tunnel.pid, signal.SIGTERM)
            tunnel.wait(20)

    def set(self, path: str, value: str) -> None:
        expect_success(self.pulumi("config", "set", "--path", path, value))

    def set_secret(self, name: str, value: str) -> None:
        """Set it as the README says: by stdin, so that no list of processes shows it."""
        expect_success(self.run("pulumi", "config", "set", "--secret", name, "--stack", STACK, stdin=value))

    def another_length(self) -> str:
        """Return a max-model-len that neither the stack file (a user may have changed it) nor any node has: setting it is a change."""
        stack = (self.home / "stacks" / f"Pulumi.{STACK}.yaml").read_text()
        self._length -= 256
        while str(self._length) in stack:
            self._length -= 256
        return str(self._length)

    def remove(self, path: str) -> None:
        expect_success(self.pulumi("config", "rm", "--path", path))

    def on(self, node: str, command: str) -> str:
        """Run a command on a node by `docker exec`: not by SSH, which is under test."""
        run = self.run("docker", "exec", f"{self.lab}-{node}", "bash", "-c", command, timeout=660)
        assert run.returncode == 0, f"{node}: {command}: {run.stdout}"
        return run.stdout.strip()

    def boot_id(self, node: str) -> str:
        return self.on(node, "cat /proc/sys/kernel/random/boot_id")

    def reboot(self, node: str) -> None:
        """Reboot a node as a power button does."""
        expect_success(self.run("docker", "restart", "-t", "30", f"{self.lab}-{node}"))

    def wait_for_replicas(self, node: str, seconds: int = BACK, replicas: Iterable[str] = ("glm-0",)) -> None:
        """Wait until the node's replicas run: they start by themselves after a reboot or a restart of the Docker daemon."""
        for name in replicas:
            active = f"systemctl is-active -q {name}.service"
            self.on(node, f"timeout {seconds} sh -c 'until {active}; do sleep 1; done' 2>/dev/null")

    def left_overs(self) -> dict[str, str]:
        """Return what of this lab is still on the machine, by kind; all empty after a destroy."""
        label = f"label=glm-fleet-lab={self.lab}"
        look = {
            "containers": ["docker", "ps", "-aq", "--filter", label],
            "volumes": ["docker", "volume", "ls", "-q", "--filter", label],
            "networks": ["docker", "network", "ls", "-q", "--filter", label],
        }
        left = {kind: expect_success(self.run(*command)).strip() for kind, command in look.items()}
        for kind, lines in (
            ("mounts", pathlib.Path("/proc/mounts").read_text().splitlines()),
            ("processes", processes()),
        ):
            left[kind] = "\n".join(line for line in lines if str(self.home) in line)
        return left


def opened(value: dict[str, Any]) -> Any:
    """Return the text of a secret in an export with --show-secrets, anything else as it is."""
    return json.loads(value["plaintext"]) if "plaintext" in value else value


def processes() -> list[str]:
    """Return 'pid, working folder, command line' of every process but this one and Pulumi's language hosts.

    A language host checks only every five minutes whether its Pulumi engine still runs; it knows no machine.
    """
    lines = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                folder = (entry / "cwd").readlink()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile, or belongs to the kernel
            except PermissionError:
                folder = pathlib.Path("?")  # closed even to root: of a sandbox, and none of ours
            if line and "/pulumi-language-python" not in line:
                lines.append(f"{entry.name} {folder} {line}")
    return lines


def forecast(preview: str) -> list[str]:
    """Return the lines with which a preview ends; measured durations become `N s`."""
    end = preview.partition("\nDiagnostics:\n")[2]
    return re.sub(r"about \d+ (s|min)( to \d+ (s|min))?", "about N s", end).replace("    ", "").splitlines()


def boots(road: Road) -> dict[str, str]:
    """Return each node's boot id."""
    return {node: road.boot_id(node) for node in NODES}
