"""The real engine on a stack whose machine has a BMC: adopted, refused to be wiped, released and wiped once, set up anew.

The BMC and what it switches on are tests/support/redfish_machine.py's; runs of Ansible stand in (tests/support/simulated_plugin.py). The tests go on
where the one before stopped. Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

from collections.abc import Iterator

import pytest
import yaml

from tests.support.pulumi_project import Fleet, pulumi
from tests.support.redfish_machine import USER, UUID, WORD, Machine, machine

NONCE = "glm-fleet:nodes.machines.prod-3.reinstall"
HOST_KEY = "glm-fleet:nodes.machines.prod-3.host_key"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("bare")) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bare: Machine) -> Fleet:
    """The stack prod with one machine, which is there and has a host key."""
    made = Fleet(tmp_path_factory.mktemp("redfish"))
    told = yaml.safe_load(made.file.read_text())
    keys = {name: (bare.folder / f"{name}.pub").read_text().strip() for name in ("user", "pin")}
    told["config"]["glm-fleet:nodes"] = {
        "source": "redfish",
        "defaults": {
            "ca": str(bare.folder / "ca.pem"),
            "identity": str(bare.folder / "user"),
            "serve": bare.serve,
            "installer": bare.installer,
            "seed": {"kind": "ubuntu", "authorized_keys": [keys["user"]]},
            "wait": 20,
        },
        "machines": {
            "prod-3": {
                "address": "127.0.0.1",
                "port": bare.ssh_port,
                "bmc": bare.url,
                "system": UUID,
                "host_key": keys["pin"],
            }
        },
    }
    made.file.write_text(yaml.safe_dump(told))
    for name, word in (("redfish_username", USER), ("redfish_password", WORD)):
        pulumi(made.project, "config", "set", "--secret", name, word, "-s", "prod")
    return made


def test_a_machine_is_adopted_and_nothing_is_done_to_it(fleet: Fleet, bare: Machine) -> None:
    code, output = fleet.run("up", "--yes", "--skip-preview")
    assert code == 0, output
    assert "warning: its power is off" in output
    assert (bare.orders, bare.wiped) == ([], 0)
    code, output = fleet.run("preview", "--expect-no-changes")
    assert code == 0, output


def test_a_nonce_alone_wipes_nothing_of_a_machine_that_is_not_released(fleet: Fleet, bare: Machine) -> None:
    pulumi(fleet.project, "config", "rm", "--path", HOST_KEY, "-s", "prod")
    fleet.set(NONCE, "one")
    for verb in (("preview",), ("up", "--yes", "--skip-preview")):
        code, output = fleet.run(*verb)
        assert code != 0
        assert 'unable to replace resource "urn:pulumi:prod::glm-fleet::fleet:index:BareMetal::prod-3"' in output
    assert (bare.orders, bare.wiped) == ([], 0)


def test_the_preview_of_a_released_machine_foretells_it(fleet: Fleet, bare: Machine) -> None:
    fleet.set("glm-fleet:release.prod-3", "new disks")
    code, output = fleet.run("preview")
    assert code == 0, output
    assert "reinstalls prod-3: wipes its disks" in output
    assert "prod-3: reinstall, not measured yet: wipes its disks" in output
    assert bare.wiped == 0


def test_an_update_installs_it_and_sets_up_anew_what_stood_there(fleet: Fleet, bare: Machine) -> None:
    code, output = fleet.run("up", "--yes", "--skip-preview")
    assert code == 0, output
    assert (bare.wiped, bare.boots) == (1, ["Cd", "Hdd"])
    assert "fleet:index:Host prod-3 updated" in output


def test_another_update_does_nothing_and_needs_no_release(fleet: Fleet, bare: Machine) -> None:
    pulumi(fleet.project, "config", "rm", "--path", "glm-fleet:release.prod-3", "-s", "prod")
    for verb in (("preview", "--expect-no-changes"), ("up", "--yes", "--skip-preview")):
        code, output = fleet.run(*verb)
        assert code == 0, output
    assert bare.wiped == 1


def test_another_installation_keeps_the_host_key_and_forgets_what_stood_there(fleet: Fleet, bare: Machine) -> None:
    before = (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text()
    fleet.set("glm-fleet:release.prod-3", "again")
    fleet.set(NONCE, "two")
    code, output = fleet.run("preview")
    assert code == 0, output
    assert "sets up prod-3 again: the machine is reinstalled" in output
    assert "prod-3: set up Host, Image, Weights, Serving again" in output
    code, output = fleet.run("up", "--yes", "--skip-preview")
    assert code == 0, output
    assert bare.wiped == 2
    assert (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text() == before


def test_no_secret_stands_in_clear_anywhere(fleet: Fleet, bare: Machine) -> None:
    private = (bare.disk / "etc" / "ssh" / "ssh_host_ed25519_key").read_text().splitlines()[2]
    for path in (fleet.project / "state").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert WORD.encode() not in content and private.encode() not in content, path
