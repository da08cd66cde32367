"""A project of this repository's files with stack files and a backend of its own, and the real engine on it.

Owns one temporary folder. Needs `pulumi` on PATH. Called by tests/unit/test_plan_engine*.py.
"""

import functools
import os
import shutil
import subprocess
from pathlib import Path

from tests.environment import forget_secrets, user_environment

ROOT = Path(__file__).resolve().parents[1]
KEY = "0123456789abcdef0123456789abcdef"


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
