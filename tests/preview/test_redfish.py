"""The real Pulumi engine on a stack whose machine has a BMC: it adopts the machine, refuses to wipe it, wipes it once after a release, sets it up again.

The BMC and its machine are tests/support/redfish_machine.py's, the runs of Ansible tests/support/simulated_plugin.py's. Each test continues
where the previous one stopped. Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import pytest
import yaml

from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import Fleet, pulumi
from tests.support.redfish_machine import USER, WORD, Machine

NONCE = "glm-fleet:nodes.machines.prod-3.reinstall"
HOST_KEY = "glm-fleet:nodes.machines.prod-3.host_key"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bare: Machine) -> Fleet:
    """The stack prod with one existing machine, which has a host key."""
    fleet = Fleet(tmp_path_factory.mktemp("redfish"))
    stack = yaml.safe_load(fleet.file.read_text())
    stack["config"]["glm-fleet:nodes"] = bare.pool()
    fleet.file.write_text(yaml.safe_dump(stack))
    for name, word in (("redfish_username", USER), ("redfish_password", WORD)):
        pulumi(fleet.project, "config", "set", "--secret", name, word, "-s", "prod")
    return fleet


def test_an_update_adopts_a_machine_without_changing_it(fleet: Fleet, bare: Machine) -> None:
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert "warning: its power is off" in output
    assert (bare.orders, bare.wiped) == ([], 0)
    expect_success(fleet.run("preview", "--expect-no-changes"))


def test_a_nonce_without_a_release_wipes_nothing(fleet: Fleet, bare: Machine) -> None:
    pulumi(fleet.project, "config", "rm", "--path", HOST_KEY, "-s", "prod")
    fleet.set(NONCE, "one")
    for verb in (("preview",), ("up", "--yes", "--skip-preview")):
        output = expect_failure(fleet.run(*verb))
        assert 'unable to replace resource "urn:pulumi:prod::glm-fleet::fleet:index:BareMetal::prod-3"' in output
    assert (bare.orders, bare.wiped) == ([], 0)


def test_the_preview_of_a_released_machine_predicts_the_wipe(fleet: Fleet, bare: Machine) -> None:
    fleet.set("glm-fleet:release.prod-3", "new disks")
    output = expect_success(fleet.run("preview"))
    assert "reinstalls prod-3: wipes its disks" in output
    assert "prod-3: reinstall, not measured yet: wipes its disks" in output
    assert bare.wiped == 0


def test_an_update_installs_it_and_sets_up_its_resources_again(fleet: Fleet, bare: Machine) -> None:
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert (bare.wiped, bare.boots) == (1, ["Cd", "Hdd"])
    assert "fleet:index:Host prod-3 updated" in output


def test_another_update_does_nothing_and_needs_no_release(fleet: Fleet, bare: Machine) -> None:
    pulumi(fleet.project, "config", "rm", "--path", "glm-fleet:release.prod-3", "-s", "prod")
    for verb in (("preview", "--expect-no-changes"), ("up", "--yes", "--skip-preview")):
        expect_success(fleet.run(*verb))
    assert bare.wiped == 1


def test_another_installation_keeps_the_host_key_and_sets_up_its_resources_again(fleet: Fleet, bare: Machine) -> None:
    before = (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text()
    fleet.set("glm-fleet:release.prod-3", "again")
    fleet.set(NONCE, "two")
    output = expect_success(fleet.run("preview"))
    assert "sets up prod-3 again: the machine is reinstalled" in output
    assert "prod-3: set up Host, Image, Weights, Serving again" in output
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert bare.wiped == 2
    assert (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text() == before


def test_no_file_of_the_state_has_a_secret_in_clear(fleet: Fleet, bare: Machine) -> None:
    private = (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text().splitlines()[2]
    for path in (fleet.project / "state").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert WORD.encode() not in content and private.encode() not in content, path
