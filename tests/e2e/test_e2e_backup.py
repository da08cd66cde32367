"""A backup of the road's stack brings it back in an empty clone: there the preview is empty, also with a look at the machines."""

import pathlib
import shutil

import pytest

from tests.support.e2e import STACK, Road

pytestmark = pytest.mark.timeout(600)


def test_restored_in_an_empty_clone_the_preview_is_empty(road: Road, first_up: str, tmp_path: pathlib.Path) -> None:
    made = road.run("bootstrap/backup.sh", STACK, str(tmp_path / "kept"))
    assert made.returncode == 0, made.stdout
    (backup,) = (tmp_path / "kept").iterdir()
    clone = Road(tmp_path / "glm-fleet", lab="none")  # its first command made a passphrase of its own
    refused = clone.run("bootstrap/restore.sh", str(backup))
    assert refused.returncode == 1 and "does not open this backup" in refused.stdout, refused.stdout
    assert not list((clone.home / ".pulumi" / "backend").rglob(f"{STACK}.json"))
    shutil.copy(road.home / ".pulumi" / "passphrase", clone.home / ".pulumi" / "passphrase")
    restored = clone.run("bootstrap/restore.sh", str(backup))
    assert restored.returncode == 0, restored.stdout
    for more in ((), ("--refresh",)):
        seen = clone.preview("--expect-no-changes", *more)
        assert seen.returncode == 0, seen.stdout
    assert clone.outputs()["api_key"] == road.outputs()["api_key"]


def test_a_state_that_is_cut_off_is_brought_back_and_the_road_is_as_it_was(road: Road, first_up: str) -> None:
    state = road.home / ".pulumi" / "backend" / ".pulumi" / "stacks" / "glm-fleet" / f"{STACK}.json"
    state.write_text(state.read_text()[:10_000])
    told = road.preview()
    assert told.returncode != 0 and "failed to load checkpoint" in told.stdout, told.stdout
    recovered = road.run("bootstrap/recover.sh", STACK)
    assert recovered.returncode == 0, recovered.stdout
    assert f"the state of {STACK} was truncated: restored that of" in recovered.stdout
    seen = road.preview("--refresh", "--expect-no-changes")
    assert seen.returncode == 0, seen.stdout
