"""A backup restores the stack in an empty clone: there the preview is empty, also with a refresh."""

import pathlib
import shutil

import pytest

from tests.support.e2e import STACK, Road
from tests.support.environment import expect_failure, expect_success

# `make test` has these claims without machines: tests/preview/test_backup.py.
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


def test_restored_in_an_empty_clone_the_preview_is_empty(road: Road, first_up: str, tmp_path: pathlib.Path) -> None:
    expect_success(road.run("bootstrap/backup.sh", STACK, str(tmp_path / "kept")))
    (backup,) = (tmp_path / "kept").iterdir()
    clone = Road(tmp_path / "glm-fleet", lab="none")  # its first command made a passphrase of its own
    refusal = clone.run("bootstrap/restore.sh", str(backup))
    assert refusal.returncode == 1 and "does not open this backup" in refusal.stdout, refusal.stdout
    assert not list((clone.home / ".pulumi" / "backend").rglob(f"{STACK}.json"))
    shutil.copy(road.home / ".pulumi" / "passphrase", clone.home / ".pulumi" / "passphrase")
    expect_success(clone.run("bootstrap/restore.sh", str(backup)))
    expect_success(clone.preview("--expect-no-changes"))
    clone.expect_no_changes()
    assert clone.outputs()["api_key"] == road.outputs()["api_key"]


def test_recover_restores_a_truncated_state(road: Road, first_up: str) -> None:
    state = road.home / ".pulumi" / "backend" / ".pulumi" / "stacks" / "glm-fleet" / f"{STACK}.json"
    state.write_text(state.read_text()[:10_000])
    assert "failed to load checkpoint" in expect_failure(road.preview())
    recovery = expect_success(road.run("bootstrap/recover.sh", STACK))
    assert f"the state of {STACK} was truncated: restored that of" in recovery
    road.expect_no_changes()
