"""Stand-ins for programs on PATH: shell scripts that print what a test needs."""

import json
from pathlib import Path
from typing import Any

import pytest


def write_program(path: Path, script: str) -> Path:
    """Write an executable shell script; return its path."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def put_pulumi_on_path(folder: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `pulumi` on PATH whose `stack export` prints a state; return the file of the state, which a test may change."""
    file = folder / "exported"
    file.write_text(json.dumps(state))
    write_program(folder / "pulumi", f'[ "$1 $2" = "stack export" ] && cat {file}')
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return file
