"""`make backup` and `make restore` on the real engine: what is restored previews empty, and no failure writes or loses anything.

The stack prod is deployed with the stand-in plugin, whose machines are not there. Needs `pulumi` on PATH; skipped with that reason
where it is not.
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.pulumi_project import KEY, Fleet, pulumi, stand_in

KEPT = Path("state", "passphrase")
FILES = Path("state", "backend", ".pulumi", "stacks", "glm-fleet")


def script(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bootstrap/ as a user with a shell of no environment of ours."""
    return subprocess.run(
        command, cwd=project, env={**os.environ, "FLEET_STATE": str(project / "state")}, text=True, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def unchanged(project: Path) -> bool:
    """Whether a preview of the stack is empty."""
    return pulumi(project, "preview", "-s", "prod", "--expect-no-changes").returncode == 0


def content(folder: Path) -> dict[str, bytes]:
    """Every file below the folder that somebody may have written: not what the bootstrap puts there for itself."""
    files = (path for part in ("stacks", "state") for path in (folder / part).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if "home" not in path.relative_to(folder).parts}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A deployed stack, whose machines stand in a file of their own."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    machines = fleet.set_apart("machines/prod.yaml")
    machines.write_text(f"# by hand\n{machines.read_text()}")
    code, output = fleet.run("up", "--yes", "--skip-preview")
    assert code == 0, output
    return fleet


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> Path:
    """A backup of it."""
    done = script(fleet.project, "bootstrap/backup.sh", "prod")
    assert done.returncode == 0, done.stdout
    (file,) = (fleet.project / "state" / "backups").iterdir()
    assert f"{file}: 19 resources" in done.stdout
    assert f"the passphrase {fleet.project / KEPT}" in done.stdout
    return file


@pytest.fixture
def clone(fleet: Fleet, backup: Path, tmp_path: Path) -> Path:
    """Another machine: a clone with no state, to which the passphrase was brought."""
    (tmp_path / "clone").mkdir()
    project = stand_in(tmp_path / "clone")
    shutil.copy(fleet.project / "state" / "machines.json", project / "state")
    shutil.copy(fleet.project / KEPT, project / KEPT)
    return project


def test_a_backup_is_for_its_owner_and_holds_neither_key_nor_passphrase(fleet: Fleet, backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backup) as archive:
        files = {
            name: archive.extractfile(name).read() for name in archive.getnames() if archive.getmember(name).isfile()
        }  # type: ignore[union-attr]
    assert set(files) == {"about", "state.json", "stacks/Pulumi.prod.yaml", "stacks/machines/prod.yaml"}
    for secret in (KEY.encode(), (fleet.project / KEPT).read_bytes().strip()):
        assert all(secret not in text for text in files.values())


def test_restored_on_an_empty_machine_the_preview_is_empty(clone: Path, backup: Path) -> None:
    done = script(clone, "bootstrap/restore.sh", str(backup))
    assert done.returncode == 0, done.stdout
    assert "the previous stacks/Pulumi.prod.yaml is kept" in done.stdout
    assert (clone / "stacks" / "machines" / "prod.yaml").read_text().startswith("# by hand\n")
    assert unchanged(clone)
    assert pulumi(clone, "stack", "output", "api_key", "--show-secrets", "-s", "prod").stdout.strip() == KEY


def test_another_passphrase_is_refused_before_anything_is_written(clone: Path, backup: Path) -> None:
    (clone / KEPT).write_text("another")
    before = content(clone)
    done = script(clone, "bootstrap/restore.sh", str(backup))
    assert done.returncode == 1
    assert f"the passphrase in {clone / KEPT} does not open this backup of prod; nothing was written" in done.stdout
    assert content(clone) == before


def test_without_a_passphrase_none_is_made_up(clone: Path, backup: Path) -> None:
    (clone / KEPT).unlink()
    done = script(clone, "bootstrap/restore.sh", str(backup))
    assert done.returncode == 1
    assert f"install -m 600 THE-KEPT-COPY {clone / KEPT}" in done.stdout
    assert not (clone / KEPT).exists()


def test_a_truncated_backup_is_refused_before_anything_is_written(clone: Path, backup: Path) -> None:
    cut = clone / "cut.tar.gz"
    cut.write_bytes(backup.read_bytes()[:-500])
    before = content(clone)
    done = script(clone, "bootstrap/restore.sh", str(cut))
    assert done.returncode == 1
    assert f"{cut} is truncated, damaged, or no backup: gzip: stdin: unexpected end of file" in done.stdout
    assert content(clone) == before


def test_what_was_written_before_a_failure_is_undone(clone: Path, backup: Path) -> None:
    """Somebody's update holds the lock: the engine refuses at the last step."""
    lock = clone / "state" / "backend" / ".pulumi" / "locks" / "organization" / "glm-fleet" / "prod" / "a.json"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"pid": 1, "username": "a", "hostname": "b", "timestamp": "2026-01-01T00:00:00Z"}')
    stack_file = clone / "stacks" / "Pulumi.prod.yaml"
    before = stack_file.read_text()
    done = script(clone, "bootstrap/restore.sh", str(backup))
    assert done.returncode == 1
    assert "the stack is currently locked" in done.stdout and "undone" in done.stdout
    assert stack_file.read_text() == before and not (clone / FILES).exists()
    assert not (clone / "stacks" / "machines" / "prod.yaml").exists()
    lock.unlink()
    assert script(clone, "bootstrap/restore.sh", str(backup)).returncode == 0


def test_a_stack_that_is_there_is_replaced_only_when_asked_and_kept_in_a_backup(clone: Path, backup: Path) -> None:
    script(clone, "bootstrap/restore.sh", str(backup))
    pulumi(clone, "config", "set", "--path", "glm-fleet:parallel", "2", "-s", "prod")
    before = content(clone)
    refused = script(clone, "bootstrap/restore.sh", str(backup))
    assert refused.returncode == 1
    assert ", with 19 resources" in refused.stdout and "OVERWRITE=yes" in refused.stdout
    assert content(clone) == before
    done = script(clone, "bootstrap/restore.sh", str(backup), "--overwrite")
    assert done.returncode == 0, done.stdout
    assert len(list((clone / "state" / "backups").glob("*.tar.gz"))) == 1
    assert unchanged(clone)


def test_a_truncated_state_file_is_reported_and_restored(clone: Path, backup: Path) -> None:
    """The file that is brought back is Pulumi's own copy; here it is the newest of a real update."""
    script(clone, "bootstrap/restore.sh", str(backup))
    pulumi(clone, "config", "set", "--path", "glm-fleet:parallel", "2", "-s", "prod")
    pulumi(clone, "up", "--yes", "--skip-preview", "-s", "prod")
    state = clone / FILES / "prod.json"
    state.write_text(state.read_text()[:30_000])
    told = script(clone, "bootstrap/stack.sh", "prod")
    assert told.returncode == 1 and "make recover STACK=" in told.stdout
    assert script(clone, "bootstrap/backup.sh", "prod").returncode == 1
    done = script(clone, "bootstrap/recover.sh", "prod")
    assert "the state of prod was truncated: restored that of" in done.stdout, done.stdout
    assert unchanged(clone)


def test_a_state_without_a_complete_copy_is_restored_from_a_backup(clone: Path, backup: Path) -> None:
    script(clone, "bootstrap/restore.sh", str(backup))
    for file in (clone / "state" / "backend" / ".pulumi").rglob("prod*.json*"):
        if file.suffix != ".attrs":
            file.write_text("{")
    told = script(clone, "bootstrap/recover.sh", "prod")
    assert told.returncode == 1 and "make restore FILE=" in told.stdout, told.stdout
    done = script(clone, "bootstrap/restore.sh", str(backup), "--overwrite")
    assert done.returncode == 0, done.stdout
    assert unchanged(clone)
