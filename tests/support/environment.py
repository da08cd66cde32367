"""What a test that runs pulumi as a user needs of this checkout: its environment, and its stack files without secrets.

Called by tests/e2e, tests/unit and tests/bench.
"""

import pathlib
import re
import subprocess
from collections.abc import Mapping


def user_environment(home: pathlib.Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what bootstrap/env.sh of the checkout `home` makes of `environment` (None: this process's own)."""
    script = 'eval "$(bootstrap/env.sh)" && env -0'
    told = subprocess.run(
        ["bash", "-c", script], cwd=home, env=environment, check=True, capture_output=True, text=True
    ).stdout
    return dict(pair.split("=", 1) for pair in told.split("\0") if "=" in pair)


def forget_secrets(home: pathlib.Path) -> None:
    """Take the secrets out of the stack files of a copy."""
    for file in (home / "stacks").glob("Pulumi.*.yaml"):
        file.write_text(without_secrets(file.read_text()))


def without_secrets(text: str) -> str:
    """Return a stack file without what only the passphrase of whoever deployed from it can read."""
    return re.sub(r"(?m)^encryptionsalt: .*\n|^ +[^\s#].*:\n +secure: .*\n", "", text)
