"""The scripts of bootstrap/ where they need no Pulumi engine: lines to paste work in a checkout whose path has spaces."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import write_program

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


def kept_go(cache: Path) -> Path:
    """Return where go.sh keeps a Go in this cache."""
    return Path(
        run("bash", "-c", ". bootstrap/lib.sh && go_home", XDG_CACHE_HOME=str(cache)).stdout.strip(), "bin", "go"
    )


@pytest.mark.parametrize(("version", "chosen"), [("1.26.0", "path"), ("1.31.2", "path"), ("1.19.8", "cache")])
def test_a_go_that_is_too_old_is_not_used(tmp_path: Path, version: str, chosen: str) -> None:
    """The kept Go stands in: nothing is installed here."""
    programs = {"path": tmp_path / "go", "cache": kept_go(tmp_path)}
    programs["cache"].parent.mkdir(parents=True)
    write_program(programs["cache"], "exit 1")
    write_program(programs["path"], f"echo go version go{version} linux/amd64")
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)}
    assert run("bootstrap/go.sh", **own).stdout == f"{programs[chosen]}\n"


def test_a_kept_go_is_on_the_path_of_the_environment(tmp_path: Path) -> None:
    kept = kept_go(tmp_path)
    script = 'eval "$(bootstrap/env.sh)" && printf "%s" "$PATH"'
    own = {"XDG_CACHE_HOME": str(tmp_path), "FLEET_STATE": str(tmp_path / "state")}
    assert str(kept.parent) not in run("bash", "-c", script, **own).stdout.split(":")
    kept.parent.mkdir(parents=True)
    write_program(kept, "exit 1")
    assert str(kept.parent) in run("bash", "-c", script, **own).stdout.split(":")


@pytest.mark.parametrize(
    ("context", "found"), [("glm-fleet-lab", True), ("glm-fleet-lab # ours", True), ("prod", False)]
)
def test_only_a_stack_on_the_lab_s_cluster_finds_the_stand_in_of_the_plugin(
    tmp_path: Path, context: str, found: bool
) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.it.yaml").write_text(f"config:\n  glm-fleet:kubernetes:\n    context: {context}\n")
    script = f'. bootstrap/lib.sh && REPO={shlex.quote(str(tmp_path))} && lab_plugin it && printf "%s" "$PATH"'
    path = run("bash", "-c", script).stdout.split(":")
    assert (f"{tmp_path}/lab/kubernetes/plugin" == path[-1]) == found


PULUMI = """case "$1 $2" in
  "stack ls") echo '[{"name": "lab-kubernetes"}, {"name": "prod"}]' ;;
  "config --show-secrets") ;;
  "config set") cat >/dev/null ;;
  *) printf '%s\\n' "$PATH" "$*" ;;
esac"""


@pytest.mark.parametrize(("stack", "found"), [("lab-kubernetes", True), ("prod", False)])
def test_a_preview_finds_the_plugins_that_up_finds(tmp_path: Path, stack: str, found: bool) -> None:
    own = {"XDG_CACHE_HOME": str(tmp_path), "FLEET_STATE": str(tmp_path / "state")}
    home = Path(run("bash", "-c", ". bootstrap/lib.sh && pulumi_home", **own).stdout.strip())
    (home / "bin").mkdir(parents=True)
    write_program(home / "bin" / "pulumi", PULUMI)
    [path, command] = run("bootstrap/preview.sh", stack, "--refresh", **own).stdout.splitlines()
    assert command == f"preview --policy-pack policies --stack {stack} --refresh"
    assert path.endswith(f":{ROOT}/lab/kubernetes/plugin") == found


def test_every_script_that_changes_or_previews_a_stack_finds_the_plugins_that_up_finds() -> None:
    scripts = {path.name: path.read_text() for path in (ROOT / "bootstrap").glob("*.sh")}
    del scripts["lab-cluster.sh"]  # makes the cluster itself, in a project of its own
    changing = {
        name for name, text in scripts.items() if re.search(r"(?m)^ *(exec )?pulumi (up|preview|refresh|destroy)", text)
    }
    assert changing == {"up.sh", "preview.sh", "recover.sh", "down.sh"}
    assert {name for name in changing if not re.search(r'(?m)^lab_plugin "\$stack"$', scripts[name])} == set()
    assert not re.search(r"pulumi (up|preview|refresh|destroy)", re.sub("##.*", "", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize(
    ("context", "named", "kept", "needed"),
    [
        ("prod", "", False, True),
        ("prod", "another", False, True),
        ("glm-fleet-lab", "", False, False),
        ("glm-fleet-lab", "another", False, False),
        ("glm-fleet-lab", "it", False, True),
        ("glm-fleet-lab", "another", True, True),  # else each `make` would remove what another stack needs
    ],
)
def test_only_a_stack_on_a_cluster_installs_the_sdk_and_the_lab_s_own_one_when_it_is_named(
    tmp_path: Path, context: str, named: str, kept: bool, needed: bool
) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "venv").mkdir()
    if kept:
        (tmp_path / "venv" / ".kubernetes").touch()
    (tmp_path / "stacks" / "Pulumi.it.yaml").write_text(f"config:\n  glm-fleet:kubernetes:\n    context: {context}\n")
    (tmp_path / "stacks" / "Pulumi.another.yaml").write_text("config:\n  glm-fleet:nodes:\n    source: ssh\n")
    script = f". bootstrap/lib.sh && REPO={shlex.quote(str(tmp_path))} && sdk_locks"
    own = {"FLEET_VENV": str(tmp_path / "venv"), "STACK": named}
    assert run("bash", "-ec", script, **own).stdout == ("requirements/kubernetes.txt\n" if needed else "")


def test_a_fresh_checkout_installs_no_sdk_of_kubernetes(tmp_path: Path) -> None:
    own = {"FLEET_VENV": str(tmp_path), "STACK": "lab"}
    assert "kubernetes" not in run("bash", "-ec", ". bootstrap/lib.sh && sdk_locks", **own).stdout
