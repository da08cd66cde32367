"""The scripts of bootstrap/ where they need no Pulumi engine: lines to paste work in a checkout whose path has spaces."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_user_can_paste_the_line_that_restores_a_passphrase(tmp_path: Path) -> None:
    state = tmp_path / "check out" / "state"
    backup = tmp_path / "a backup.tar.gz"
    backup.touch()
    result = run("bootstrap/restore.sh", str(backup), FLEET_STATE=str(state))
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1].removeprefix("  next:   ")
    folder, file = line.split(" && ")
    assert shlex.split(folder) == ["mkdir", "-p", str(state)]
    assert shlex.split(file) == ["install", "-m", "600", "THE-KEPT-COPY", f"{state}/passphrase"]


def test_make_passes_a_folder_with_a_space_as_one_word() -> None:
    output = run("make", "--dry-run", "backup", "STACK=prod", "TO=/srv/the backups").stdout
    line = next(line for line in output.splitlines() if line.startswith("bootstrap/backup.sh"))
    assert shlex.split(line) == ["bootstrap/backup.sh", "prod", "/srv/the backups"]


def test_a_shell_can_evaluate_the_environment_of_a_state_with_a_space(tmp_path: Path) -> None:
    state = tmp_path / "check out"
    script = 'eval "$(bootstrap/env.sh)" && printf "%s" "$PULUMI_BACKEND_URL"'
    result = run("bash", "-c", script, FLEET_STATE=str(state), FLEET_BACKEND="")
    assert result.stdout == f"file://{state}/backend", result.stderr
