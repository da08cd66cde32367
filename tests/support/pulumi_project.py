"""A project of this repository's files with stack files and a backend of its own, and the real engine on it.

Owns one temporary folder. Needs `pulumi` on PATH. Called by tests/preview.
"""

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.environment import forget_secrets, user_environment

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef0123456789abcdef"
# What the stand-in machines of Fleet take for each role.
SECONDS = {"host": 60, "docker": 40, "rocm": 151, "transformers": 144, "weights": 20, "vllm": 92.3}
STANDIN = f"""#!/bin/sh
PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -u -m tests.support.simulated_plugin "$@"
"""


def link_project(folder: Path, *own: str) -> Path:
    """Fill the folder with links to everything but state, stack files, which it gets as copies, and what the caller has of its `own`."""
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
    """The environment of a user whose state is there: backend, passphrase, runner of the policies."""
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
    """Make a project in which the stand-in takes the plugin's place (tests/support/simulated_plugin.py), with an empty state folder."""
    link_project(folder, "Pulumi.yaml")
    plugin = folder / "standin" / "pulumi-resource-fleet"
    plugin.parent.mkdir()
    plugin.write_text(STANDIN)
    plugin.chmod(0o755)
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text().replace("./fleet/provider", "./standin"))
    (folder / "state").mkdir()
    return folder


def with_cloud(folder: Path) -> None:
    """Let the lab's cloud take the place of DigitalOcean's plugin in a project (lab/cloud)."""
    told = (folder / "Pulumi.yaml").read_text()
    (folder / "Pulumi.yaml").unlink()
    (folder / "Pulumi.yaml").write_text(f"{told.rstrip()}\n    - name: digitalocean\n      path: ./lab/cloud\n")


class Fleet:
    """The stack prod of a project whose plugin is the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.project = stand_in(folder)
        self.machines()
        self.file = make_stack(folder, "prod")
        self.as_deployed = self.file.read_text()

    def machines(self, **told: Any) -> None:
        """Say how the machines are: drift by "KIND NODE", nodes that are silent."""
        (self.project / "state" / "machines.json").write_text(
            json.dumps({"seconds": SECONDS, "drift": {}, "silent": [], **told})
        )

    def set_apart(self, name: str) -> Path:
        """Move the stack's machines into a file of their own beside its file; return that."""
        told = yaml.safe_load(self.file.read_text())
        nodes = told["config"]["glm-fleet:nodes"]
        own = self.file.parent / name
        own.parent.mkdir(exist_ok=True)
        own.write_text(yaml.safe_dump(nodes["machines"]))
        nodes["machines"] = name
        self.file.write_text(yaml.safe_dump(told))
        return own

    def set(self, path: str, value: str) -> None:
        done = pulumi(self.project, "config", "set", "--path", path, value, "-s", "prod")
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run pulumi; return exit code and output."""
        done = pulumi(self.project, *arguments, "-s", "prod", "--color", "never")
        return done.returncode, done.stdout + done.stderr

    def verb(self, *arguments: str) -> tuple[int, str]:
        """Run a verb of `fleet` on the stack; return exit code and output."""
        environment = environment_of(self.project / "state")
        command = [str(ROOT / ".venv" / "bin" / "fleet"), *arguments, "-s", "prod"]
        done = subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr
