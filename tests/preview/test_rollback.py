"""`fleet rollback` on the real Pulumi engine: it finds the last good state in Pulumi's history, and `pulumi up` goes back to it in turns.

The stack prod is deployed with the stand-in plugin, whose machines are not there. Needs `pulumi` on PATH; skipped with that reason
where it is not.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, Fleet, stand_in

pytestmark = pytest.mark.timeout(600)  # each deploys a stack several times
UP = ("up", "--yes", "--skip-preview")
NAMES = [f"prod-{number}" for number in (1, 2, 3, 4)]
WRITTEN = "stacks/Pulumi.prod.yaml: written\n  next:   `pulumi up -s prod --policy-pack policies` goes back, in turns\n"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack, deployed once."""
    fleet = Fleet(tmp_path_factory.mktemp("rollback"))
    expect_success(fleet.run(*UP))
    return fleet


@pytest.fixture
def fleet(deployed: Fleet) -> Iterator[Fleet]:
    """The deployed stack; the end of the test restores its file, its machines and its state."""
    yield deployed
    deployed.restore()


def test_after_a_failed_change_only_the_failed_node_is_left_to_change(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    fleet.machines(failing=["Serving prod-1"])
    expect_failure(fleet.run(*UP, "--continue-on-error"))
    fleet.machines()
    output = expect_success(fleet.verb("rollback", "--yes"))
    assert "-      max-model-len: 8192\n+      max-model-len: 65536\n" in output and output.endswith(WRITTEN)
    assert fleet.file.read_text() == fleet.as_deployed
    assert "~ 1 to update\n    18 unchanged" in expect_success(fleet.run("preview"))


def test_after_a_change_that_ended_well_it_goes_to_the_state_before_in_turns(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    expect_success(fleet.run(*UP))
    output = expect_success(fleet.verb("rollback", "--yes"))
    assert "in turns: prod-1 first (canary, held 60 s), then prod-2, prod-3, prod-4 one at a time" in output
    fleet.log()
    expect_success(fleet.run(*UP))
    steps = ("drain {}", "Serving {} begins", "Serving {} ends", "give back {}")
    assert fleet.log() == [step.format(name) for name in NAMES for step in steps]
    expect_success(fleet.verb("rollback", "--yes"))
    assert "max-model-len: 32768" in fleet.file.read_text(), "the state before is now that one"


def test_an_update_of_some_targets_is_no_good_state(fleet: Fleet) -> None:
    fleet.set(FLAG, "16384")
    urn = "urn:pulumi:prod::glm-fleet::fleet:index:Node$fleet:index:Serving::prod-3"
    expect_success(fleet.run(*UP, "--target", urn))
    fleet.file.write_text(fleet.as_deployed)
    newest = expect_success(fleet.verb("rollback", "--list")).splitlines()[1]
    assert newest.endswith("  none"), "the newest good state is the whole deployment before"


def test_without_a_yes_nothing_is_written(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    before = fleet.file.read_text()
    expect_failure(fleet.verb("rollback"), 1)
    assert fleet.file.read_text() == before


def test_a_state_that_the_rules_refuse_is_not_written(fleet: Fleet) -> None:
    fleet.file.write_text(fleet.as_deployed.replace("reason: stand-ins have no clients", "reason: ''"))
    fleet.set(FLAG, "8192")
    before = fleet.file.read_text()
    expect_failure(fleet.verb("rollback", "--yes"), 1)
    assert fleet.file.read_text() == before


def test_a_restored_backup_brings_its_good_states_with_it(fleet: Fleet, tmp_path: Path) -> None:
    fleet.set(FLAG, "32768")
    expect_success(fleet.run(*UP))

    def script(project: Path, *command: str) -> str:
        state = project / "state"
        environment = {**os.environ, "FLEET_STATE": str(state)}
        run = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        return expect_success(run)

    script(fleet.project, "bootstrap/backup.sh", "prod", str(tmp_path / "kept"))
    (backup,) = (tmp_path / "kept").iterdir()
    (tmp_path / "clone").mkdir()
    clone = Fleet.__new__(Fleet)
    clone.project = stand_in(tmp_path / "clone")
    for name in ("machines.json", "passphrase"):
        shutil.copy(fleet.project / "state" / name, clone.project / "state")
    script(clone.project, "bootstrap/restore.sh", str(backup))
    assert "no history" not in expect_success(clone.run("stack", "history"))
    output = expect_success(clone.verb("rollback", "--yes"))
    assert "-      max-model-len: 32768\n+      max-model-len: 65536\n" in output
