"""What a test needs to run commands as a user of this checkout: the environment, stack files without secrets, a verdict on the exit code."""

import pathlib
import re
import subprocess
from collections.abc import Mapping


def user_environment(home: pathlib.Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what bootstrap/env.sh of the checkout `home` makes of `environment` (None: this process's own)."""
    script = 'eval "$(bootstrap/env.sh)" && env -0'
    command = ["bash", "-c", script]
    output = subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True, text=True).stdout
    return dict(pair.split("=", 1) for pair in output.split("\0") if "=" in pair)


def expect_success(run: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a command, which must have ended with exit code 0."""
    output: str = run.stdout + (run.stderr or "")
    assert run.returncode == 0, f"{run.args} ended with {run.returncode}:\n{output}"
    return output


def expect_failure(run: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """Return the output of a command, which must have ended with this exit code (0: with any other than 0)."""
    output: str = run.stdout + (run.stderr or "")
    assert run.returncode and run.returncode == (code or run.returncode), f"{run.args}: {run.returncode}:\n{output}"
    return output


def forget_secrets(home: pathlib.Path) -> None:
    """Remove the secrets from the stack files of a copy, and the clients, whose keys are elsewhere."""
    for file in (home / "stacks").glob("Pulumi.*.yaml"):
        file.write_text(without_secrets(file.read_text()))


def without_secrets(text: str) -> str:
    """Return a stack file without what only its owner has: secrets and clients."""
    return re.sub(
        r"(?m)^encryptionsalt: .*\n|^ +[^\s#].*:\n +secure: .*\n|^  glm-fleet:clients:\n(    .*\n)+", "", text
    )
