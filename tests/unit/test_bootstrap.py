"""The scripts of bootstrap/ where they need no engine: lines to paste work in a checkout whose path has spaces."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_line_that_puts_a_passphrase_back_can_be_pasted(tmp_path: Path) -> None:
    state = tmp_path / "check out" / "state"
    backup = tmp_path / "a backup.tar.gz"
    backup.touch()
    done = run("bootstrap/restore.sh", str(backup), FLEET_STATE=str(state))
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1].removeprefix("  next:   ")
    folder, file = line.split(" && ")
    assert shlex.split(folder) == ["mkdir", "-p", str(state)]
    assert shlex.split(file) == ["install", "-m", "600", "THE-KEPT-COPY", f"{state}/passphrase"]


def test_make_hands_a_folder_with_a_space_over_as_one_word() -> None:
    done = run("make", "--dry-run", "backup", "STACK=prod", "TO=/srv/the backups")
    line = next(line for line in done.stdout.splitlines() if line.startswith("bootstrap/backup.sh"))
    assert shlex.split(line) == ["bootstrap/backup.sh", "prod", "/srv/the backups"]


def test_the_environment_of_a_state_with_a_space_can_be_evaluated(tmp_path: Path) -> None:
    state = tmp_path / "check out"
    script = 'eval "$(bootstrap/env.sh)" && printf "%s" "$PULUMI_BACKEND_URL"'
    done = run("bash", "-c", script, FLEET_STATE=str(state), FLEET_BACKEND="")
    assert done.stdout == f"file://{state}/backend", done.stderr
