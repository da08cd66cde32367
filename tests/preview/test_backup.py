"""`make backup` and `make restore` on the real Pulumi engine: a restored stack previews empty, and no failure writes or loses anything.

The stack prod is deployed with the stand-in plugin, whose machines are not there. Needs `pulumi` on PATH; skipped with that reason
where it is not.
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import KEY, Fleet, pulumi, stand_in

pytestmark = pytest.mark.timeout(600)  # each deploys or restores a stack several times
KEPT = Path("state", "passphrase")
FILES = Path("state", "backend", ".pulumi", "stacks", "glm-fleet")


def script(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bootstrap/ in a shell without our environment."""
    return subprocess.run(
        command, cwd=project, env={**os.environ, "FLEET_STATE": str(project / "state")}, text=True, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def restore(project: Path, backup: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return script(project, "bootstrap/restore.sh", str(backup), *more)


def expect_no_changes(project: Path) -> None:
    expect_success(pulumi(project, "preview", "-s", "prod", "--expect-no-changes"))


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below the folder, less those that the bootstrap writes for itself."""
    files = (path for part in ("stacks", "state") for path in (folder / part).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if "home" not in path.relative_to(folder).parts}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A deployed stack, with its machines in a file of their own."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    machines = fleet.set_apart("machines/prod.yaml")
    machines.write_text(f"# by hand\n{machines.read_text()}")
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    return fleet


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> Path:
    """A backup of it."""
    output = expect_success(script(fleet.project, "bootstrap/backup.sh", "prod"))
    (file,) = (fleet.project / "state" / "backups").iterdir()
    assert f"{file}: 19 resources" in output
    assert f"the passphrase {fleet.project / KEPT}" in output
    return file


@pytest.fixture
def clone(fleet: Fleet, backup: Path, tmp_path: Path) -> Path:
    """A clone on another machine, with the passphrase and without a state."""
    (tmp_path / "clone").mkdir()
    project = stand_in(tmp_path / "clone")
    shutil.copy(fleet.project / "state" / "machines.json", project / "state")
    shutil.copy(fleet.project / KEPT, project / KEPT)
    return project


def test_only_the_owner_reads_a_backup_which_has_neither_key_nor_passphrase(fleet: Fleet, backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backup) as archive:
        files = {
            name: archive.extractfile(name).read() for name in archive.getnames() if archive.getmember(name).isfile()
        }  # type: ignore[union-attr]
    assert set(files) == {"about", "state.json", "good.json", "stacks/Pulumi.prod.yaml", "stacks/machines/prod.yaml"}
    for secret in (KEY.encode(), (fleet.project / KEPT).read_bytes().strip()):
        assert all(secret not in text for text in files.values())


def test_restored_on_an_empty_machine_the_preview_is_empty(clone: Path, backup: Path) -> None:
    output = expect_success(restore(clone, backup))
    assert "the previous stacks/Pulumi.prod.yaml is kept" in output
    assert (clone / "stacks" / "machines" / "prod.yaml").read_text().startswith("# by hand\n")
    expect_no_changes(clone)
    assert pulumi(clone, "stack", "output", "api_key", "--show-secrets", "-s", "prod").stdout.strip() == KEY


def test_a_restore_with_another_passphrase_writes_nothing(clone: Path, backup: Path) -> None:
    (clone / KEPT).write_text("another")
    before = content(clone)
    output = expect_failure(restore(clone, backup), 1)
    assert f"the passphrase in {clone / KEPT} does not open this backup of prod; nothing was written" in output
    assert content(clone) == before


def test_a_restore_without_a_passphrase_creates_none(clone: Path, backup: Path) -> None:
    (clone / KEPT).unlink()
    assert f"install -m 600 THE-KEPT-COPY {clone / KEPT}" in expect_failure(restore(clone, backup), 1)
    assert not (clone / KEPT).exists()


def test_a_restore_of_a_truncated_backup_writes_nothing(clone: Path, backup: Path) -> None:
    truncated = clone / "truncated.tar.gz"
    truncated.write_bytes(backup.read_bytes()[:-500])
    before = content(clone)
    output = expect_failure(restore(clone, truncated), 1)
    assert f"{truncated} is truncated, damaged, or no backup: gzip: stdin: unexpected end of file" in output
    assert content(clone) == before


def test_a_restore_that_fails_reverts_its_files(clone: Path, backup: Path) -> None:
    """Another update holds the lock: the Pulumi engine refuses the last step."""
    lock = clone / "state" / "backend" / ".pulumi" / "locks" / "organization" / "glm-fleet" / "prod" / "a.json"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"pid": 1, "username": "a", "hostname": "b", "timestamp": "2026-01-01T00:00:00Z"}')
    stack_file = clone / "stacks" / "Pulumi.prod.yaml"
    before = stack_file.read_text()
    output = expect_failure(restore(clone, backup), 1)
    assert "the stack is currently locked" in output and "undone" in output
    assert stack_file.read_text() == before and not (clone / FILES).exists()
    assert not (clone / "stacks" / "machines" / "prod.yaml").exists()
    lock.unlink()
    expect_success(restore(clone, backup))


def test_a_restore_replaces_an_existing_stack_only_on_request_and_after_a_backup(clone: Path, backup: Path) -> None:
    restore(clone, backup)
    pulumi(clone, "config", "set", "--path", "glm-fleet:parallel", "2", "-s", "prod")
    before = content(clone)
    output = expect_failure(restore(clone, backup), 1)
    assert ", with 19 resources" in output and "OVERWRITE=yes" in output
    assert content(clone) == before
    expect_success(restore(clone, backup, "--overwrite"))
    assert len(list((clone / "state" / "backups").glob("*.tar.gz"))) == 1
    expect_no_changes(clone)


def test_a_backup_that_is_older_than_the_state_is_restored_only_when_that_is_asked_for(
    clone: Path, backup: Path
) -> None:
    restore(clone, backup)
    expect_success(pulumi(clone, "up", "--yes", "--skip-preview", "-s", "prod"))
    before = content(clone)
    output = expect_failure(restore(clone, backup, "--overwrite"), 1)
    assert "it does not know what was deployed since" in output and "OVERWRITE=older" in output
    assert content(clone) == before
    expect_success(restore(clone, backup, "--overwrite=older"))
    assert len(list((clone / "state" / "backups").glob("*.tar.gz"))) == 1


def test_recover_restores_a_truncated_state_file(clone: Path, backup: Path) -> None:
    """From Pulumi's own copy; here the newest of a real update."""
    restore(clone, backup)
    pulumi(clone, "config", "set", "--path", "glm-fleet:parallel", "2", "-s", "prod")
    pulumi(clone, "up", "--yes", "--skip-preview", "-s", "prod")
    state = clone / FILES / "prod.json"
    state.write_text(state.read_text()[:30_000])
    assert "make recover STACK=" in expect_failure(script(clone, "bootstrap/stack.sh", "prod"), 1)
    expect_failure(script(clone, "bootstrap/backup.sh", "prod"), 1)
    recovery = expect_success(script(clone, "bootstrap/recover.sh", "prod"))
    assert "the state of prod was truncated: restored that of" in recovery
    expect_no_changes(clone)


def test_a_backup_restores_a_state_without_a_complete_copy(clone: Path, backup: Path) -> None:
    restore(clone, backup)
    for file in (clone / "state" / "backend" / ".pulumi").rglob("prod*.json*"):
        if file.suffix != ".attrs":
            file.write_text("{")
    assert "make restore FILE=" in expect_failure(script(clone, "bootstrap/recover.sh", "prod"), 1)
    expect_success(restore(clone, backup, "--overwrite"))
    expect_no_changes(clone)


def test_a_backup_of_the_earlier_format_can_be_restored(clone: Path, backup: Path, tmp_path: Path) -> None:
    """Format 2 had no good states."""
    members = tmp_path / "members"
    members.mkdir()
    subprocess.run(["tar", "xzf", str(backup), "-C", str(members)], check=True)
    (members / "about").write_text((members / "about").read_text().replace("format 3", "format 2"))
    earlier = tmp_path / "earlier.tar.gz"
    subprocess.run(["tar", "czf", str(earlier), "-C", str(members), "about", "state.json", "stacks"], check=True)
    expect_success(restore(clone, earlier))
    expect_no_changes(clone)
    (members / "about").write_text((members / "about").read_text().replace("format 2", "format 9"))
    subprocess.run(["tar", "czf", str(earlier), "-C", str(members), "about", "state.json", "stacks"], check=True)
    assert "has the format 9\n  wanted: format 3, or 2\n" in expect_failure(restore(clone, earlier, "--overwrite"), 1)
