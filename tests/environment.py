"""What a test that runs pulumi as a user needs of this checkout: its environment, and its stack files without secrets.

Called by tests/road, tests/unit and tests/bench.
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
    """Take out of the stack files of a copy what only the passphrase of whoever deployed from the original can read."""
    for file in (home / "stacks").glob("Pulumi.*.yaml"):
        kept = re.sub(r"(?m)^encryptionsalt: .*\n|^ +[^\s#].*:\n +secure: .*\n", "", file.read_text())
        file.write_text(kept)
