"""The environment that `eval "$(make env)"` gives a user, for tests that run pulumi as one. Called by tests/road and tests/unit."""

import pathlib
import subprocess
from collections.abc import Mapping


def user_environment(home: pathlib.Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what bootstrap/env.sh of the checkout `home` makes of `environment` (None: this process's own)."""
    script = 'eval "$(bootstrap/env.sh)" && env -0'
    told = subprocess.run(
        ["bash", "-c", script], cwd=home, env=environment, check=True, capture_output=True, text=True
    ).stdout
    return dict(pair.split("=", 1) for pair in told.split("\0") if "=" in pair)
