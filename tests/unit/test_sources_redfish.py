"""A stack whose machines have BMCs: what its form refuses (golden/sources_redfish/), and what the program makes of it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.cli import preflight, stack_outputs
from fleet.sources.redfish.form import Nodes
from fleet.stack import role_vars, settings
from tests.support import program_mocks
from tests.support.builders import FILE, KEY, REMOVE, changed

GOLDEN = Path(__file__).parent / "golden" / "sources_redfish"
BMCS = {"vllm_api_key": program_mocks.KEY, "redfish_username": "admin", "redfish_password": "a-word"}


def stack() -> dict[str, Any]:
    """Return a right stack of two machines: one is adopted, one is installed."""
    return {
        "nodes": {
            "source": "redfish",
            "defaults": {
                "ca": "bmc-ca.pem",
                "serve": "192.0.2.5:8090",
                "installer": {"url": "https://mirror.example/ubuntu.iso", "sha256": "ab" * 32},
                "seed": {"kind": "ubuntu", "authorized_keys": [f"{KEY} ops@example"]},
            },
            "machines": {
                "prod-1": {"address": "192.0.2.11", "bmc": "https://192.0.2.111", "host_key": KEY},
                "prod-2": {"address": "192.0.2.12", "bmc": "https://192.0.2.112", "reinstall": "2026-11-26"},
            },
        },
    }


MACHINE = ["nodes", "machines", "prod-2"]
MISTAKES: dict[str, tuple[list[str], Any]] = {
    "neither-a-host-key-nor-a-nonce": ([*MACHINE, "reinstall"], REMOVE),
    "both-a-host-key-and-a-nonce": ([*MACHINE, "host_key"], KEY),
    "no-installer-and-no-seed": (["nodes", "defaults"], {"serve": "192.0.2.5:8090"}),
    "a-bmc-without-tls": ([*MACHINE, "bmc"], "http://192.0.2.112"),
    "no-bmc": ([*MACHINE, "bmc"], REMOVE),
    "two-machines-of-one-bmc": ([*MACHINE, "bmc"], "https://192.0.2.111"),
    "one-host-under-two-names": ([*MACHINE, "address"], "192.0.2.11"),
    "a-nonce-with-a-space": ([*MACHINE, "reinstall"], "new disks"),
    "an-image-without-a-digest": (["nodes", "defaults", "installer", "sha256"], "latest"),
    "a-seed-that-no-key-opens": (["nodes", "defaults", "seed", "authorized_keys"], []),
    "an-address-without-a-port": (["nodes", "defaults", "serve"], "192.0.2.5"),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_told(claim: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(changed(stack(), *MISTAKES[claim]), FILE)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_a_machine_takes_what_it_does_not_say_from_the_defaults() -> None:
    pool = settings.read(stack(), FILE).nodes[0]
    assert isinstance(pool, Nodes)
    reach = {"port": 22, "user": "root", "identity": "~/.ssh/id_ed25519", "become": False, "wait": 1800}
    assert pool.connection("prod-1") == {"address": "192.0.2.11", "host_key": KEY, "gpus": 8, **reach}
    assert pool.connection("prod-2") == {"address": "192.0.2.12", "gpus": 8, **reach}
    assert pool.options("prod-2")["serve"] == "192.0.2.5:8090"


def values(**changes: Any) -> dict[str, Any]:
    """Return the configuration of the stack prod with these machines."""
    return {**program_mocks.config("prod"), "glm-fleet:nodes": stack()["nodes"], **changes}


def test_an_adopted_machine_is_looked_at_before_it_is_reached_and_has_its_own_key() -> None:
    declared = program_mocks.run("prod", values(), BMCS)
    bare = declared.inputs["BareMetal", "prod-1"]
    assert (bare["bmc"], bare["username"], bare["address"]) == ("https://192.0.2.111", SECRET("admin"), "192.0.2.11")
    assert not {"reinstall", "private", "released"} & bare.keys()
    node = declared.inputs["Node", "prod-1"]
    assert (node["address"], node["host_key"]) == ("192.0.2.11", KEY) and "install" not in node
    assert ("HostKey", "prod-1") not in declared.inputs


def test_an_installed_machine_gets_a_host_key_of_ours_and_is_known_by_its_nonce() -> None:
    declared = program_mocks.run("prod", values(), BMCS)
    bare, node = declared.inputs["BareMetal", "prod-2"], declared.inputs["Node", "prod-2"]
    assert (bare["reinstall"], bare["host_key"], node["host_key"]) == ("2026-11-26", "ssh-ed25519 B", "ssh-ed25519 B")
    assert node["install"] == "2026-11-26"
    assert declared.protected >= {("BareMetal", "prod-2"), ("HostKey", "prod-2"), ("Node", "prod-2")}
    assert "released" not in bare


def test_what_is_released_may_be_wiped() -> None:
    declared = program_mocks.run("prod", values(**{"glm-fleet:release": {"prod-2": "new disks"}}), BMCS)
    assert declared.inputs["BareMetal", "prod-2"]["released"] is True
    assert not {("BareMetal", "prod-2"), ("HostKey", "prod-2")} & declared.protected


def test_the_credentials_of_the_bmcs_must_be_there_and_are_asked_of_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(SystemExit):
        program_mocks.run("prod", values(), {"vllm_api_key": program_mocks.KEY})
    assert "pulumi config set --secret redfish_username -s prod" in caplog.text
    assert "pulumi config set --secret redfish_password -s prod" in caplog.text
    caplog.clear()
    assert program_mocks.run("prod", program_mocks.config("prod")).names("Node")
    assert "redfish" not in caplog.text


def test_a_machine_that_is_there_is_looked_at_before_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `fleet preflight`: of one that is to be installed nothing can be known yet."""
    monkeypatch.setattr(stack_outputs, "deployed", lambda stack: {})
    found, roles = settings.read(stack(), FILE), role_vars.load(Path(preflight.__file__).parents[2] / "roles")
    (one,) = preflight.required("prod", found, roles, ["prod-1"])
    assert (one.target.address, one.target.host_key) == ("192.0.2.11", KEY)
    with pytest.raises(errors.FleetError, match=r"prod-2: preflight: its source \(redfish\) has not made it yet"):
        preflight.required("prod", found, roles, [])


def test_a_password_in_clear_is_refused_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        program_mocks.run(
            "prod", {**values(), "glm-fleet:redfish_password": "a-word"}, {"vllm_api_key": program_mocks.KEY}
        )
    assert "redfish_password: is in clear" in caplog.text and "a-word" not in caplog.text


def SECRET(text: str) -> Any:
    """Return how a secret input looks to the engine."""
    return {program_mocks.SECRET: program_mocks.SECRET_SIGN, "value": text}


def test_a_package_that_is_not_installed_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "sushy" else find(name, *more))
    with pytest.raises(SystemExit):
        program_mocks.run("prod", values(), BMCS)
    assert (
        "source redfish: look for what it needs: the Python package sushy is not installed\n"
        "  wanted: the packages of requirements/redfish.txt\n"
        "  next:   `make python`: it installs what the stack files name" in caplog.text
    )
