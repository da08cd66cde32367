"""A project of this repository's files with stack files and a backend of its own, and the real Pulumi engine on it.

Owns one temporary folder. Needs `pulumi` on PATH. Called by tests/preview.
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.environment import expect_success, forget_secrets, user_environment
from tests.support.programs import write_program

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef0123456789abcdef"
# The stand-in machines' seconds for each role.
SECONDS = {"host": 60, "docker": 40, "rocm": 151, "transformers": 144, "weights": 20, "vllm": 92.3, "gateway": 9}
# A flag of the stack prod, by its path in the file.
FLAG = 'glm-fleet:vars.vllm_flags["max-model-len"]'
WAIVER = "  glm-fleet:waivers: {gateways-in-production: {reason: stand-ins have no clients, expires: 2099-12-31}}"
PYTHON = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"


def link_project(folder: Path, *own: str) -> Path:
    """Fill the folder with links to everything but the state and the caller's `own` files; the stack files are copies."""
    for entry in ROOT.iterdir():
        if entry.name not in (".git", ".pulumi", "stacks", *own):
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "stacks", folder / "stacks")
    forget_secrets(folder)
    return folder


def make_stack(project: Path, name: str) -> Path:
    """Make the stack in the project's backend, with an API key; return its file."""
    pulumi(project, "stack", "init", name)
    pulumi(project, "config", "set", "--secret", "vllm_api_key", KEY, "-s", name)
    return project / "stacks" / f"Pulumi.{name}.yaml"


@functools.cache
def environment_of(state: Path) -> dict[str, str]:
    """Return the environment of a user with this state: backend, passphrase, runner of the policies."""
    return user_environment(ROOT, {**os.environ, "FLEET_STATE": str(state)})


def pulumi(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pulumi on the project's own backend."""
    state = project / "state"
    return subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=project,
        env={**environment_of(state), "FLEET_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def stand_in(folder: Path) -> Path:
    """Make a project with the stand-in as its plugin (tests/support/simulated_plugin.py), and with an empty state folder."""
    link_project(folder, "Pulumi.yaml")
    (folder / "standin").mkdir()
    write_program(folder / "standin" / "pulumi-resource-fleet", f'{PYTHON} -u -m tests.support.simulated_plugin "$@"')
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text().replace("./fleet/provider", "./standin"))
    (folder / "state").mkdir()
    return folder


def with_cloud(folder: Path) -> None:
    """Replace DigitalOcean's plugin in a project by the lab's cloud (lab/cloud)."""
    text = (folder / "Pulumi.yaml").read_text()
    (folder / "Pulumi.yaml").unlink()
    (folder / "Pulumi.yaml").write_text(f"{text.rstrip()}\n    - name: digitalocean\n      path: ./lab/cloud\n")


def diagnostics(output: str) -> str:
    """Return the text under Diagnostics, without its indent."""
    lines = output.partition("Diagnostics:\n")[2].partition("\nOutputs:")[0].partition("\nResources:")[0]
    return "".join(f"{line.removeprefix('  ')}\n" for line in lines.splitlines() if line.strip())


def beside_the_stack(*lines: str) -> str:
    """Return the diagnostics of a preview that ends with these lines."""
    return "".join(f"{line}\n" for line in ("pulumi:pulumi:Stack (glm-fleet-prod):", *(f"  {line}" for line in lines)))


class Fleet:
    """The stack prod, without its gateway, of a project whose plugin is the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.project = stand_in(folder)
        self.machines()
        file = folder / "stacks" / "Pulumi.prod.yaml"
        file.write_text(re.sub(r"(?m)^  glm-fleet:gateway: .*$", WAIVER, file.read_text()))
        self.file = make_stack(folder, "prod")
        self.as_deployed = self.file.read_text()

    def machines(self, **state: Any) -> None:
        """Set the machines' state: drift by "KIND NODE", silent and drained nodes, failing runs ("KIND NODE"), and how many days later it is."""
        text = json.dumps({"seconds": SECONDS, "drift": {}, "silent": [], "failing": [], **state})
        (self.project / "state" / "machines.json").write_text(text)

    def restore(self) -> None:
        """Restore the stack's file, its machines and its state as they were deployed."""
        self.file.write_text(self.as_deployed)
        self.machines()
        expect_success(self.run("up", "--yes", "--skip-preview"))

    def log(self) -> list[str]:
        """Return what was done to the machines since the last call."""
        file = self.project / "state" / "runs.log"
        lines = file.read_text().splitlines()
        file.write_text("")
        return lines

    def set_apart(self, name: str) -> Path:
        """Move the stack's machines into a file of their own beside its file; return that."""
        stack = yaml.safe_load(self.file.read_text())
        nodes = stack["config"]["glm-fleet:nodes"]
        file = self.file.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(nodes["machines"]))
        nodes["machines"] = name
        self.file.write_text(yaml.safe_dump(stack))
        return file

    def set(self, path: str, value: str) -> None:
        expect_success(pulumi(self.project, "config", "set", "--path", path, value, "-s", "prod"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pulumi on the stack."""
        return pulumi(self.project, *arguments, "-s", "prod", "--color", "never")

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of `fleet` on the stack."""
        return self.command(*arguments, "-s", "prod")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `fleet` in the project."""
        environment = {**environment_of(self.project / "state"), "FLEET_STATE": str(self.project / "state")}
        command = [str(ROOT / ".venv" / "bin" / "fleet"), *arguments]
        return subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
