"""The resource BareMetal over gRPC: it reads a machine, a nonce installs it once, and the preview predicts what that wipes.

The machine is sushy-emulator's (tests/support/redfish_machine.py). tests/machine/golden/redfish has its messages.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulumi.runtime.proto import engine_pb2, provider_pb2

from fleet import ssh
from tests.support.plugin import UNKNOWN, Engine, Launch, Plugin, Props, expect_error, partial_state, urn
from tests.support.redfish_machine import SETTINGS, USER, UUID, WORD, Machine, machine

KIND = "BareMetal"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """A machine that is switched off, its disk empty."""
    with machine(tmp_path) as bare_machine:
        yield bare_machine


def adopted(bare: Machine, **more: object) -> Props:
    """Return the inputs of an adopted machine."""
    reach = {"address": "127.0.0.1", "port": bare.ssh_port, "user": "root", "identity": str(bare.folder / "user")}
    login = {"username": USER, "password": WORD, "ca": str(bare.folder / "ca.pem")}
    return {"name": "glm-1", "bmc": bare.url, "system": UUID, **login, **reach, **more}


def installed(bare: Machine, **more: object) -> Props:
    """Return the inputs of a machine to be installed."""
    keys = {name: (bare.folder / name).read_text().strip() for name in ("user.pub", "pin.pub", "pin")}
    wishes = {
        "reinstall": "one",
        "host_key": keys["pin.pub"],
        "private": keys["pin"],
        "installer": bare.installer,
        "serve": bare.serve,
        "seed": {"kind": "ubuntu", "authorized_keys": [keys["user.pub"]]},
        "within": 20,
        "wait": 10,
    }
    return {**adopted(bare), **wishes, **more}


def test_without_a_nonce_a_create_only_reads_the_machine(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    bare.bios = {**SETTINGS, "NumaNodesPerSocket": "NPS4"}
    outputs = plugin.create(KIND, adopted(bare))
    assert (outputs["power"], outputs["settings"], outputs["installed"]) == ("Off", bare.bios, "")
    assert (bare.orders, bare.wiped) == ([], 0)
    engine.hear("BIOS: NUMA nodes per socket (NumaNodesPerSocket) is NPS4, wanted NPS1")
    engine.hear("its power is off")
    warnings = [line for line in engine.lines if line.severity == engine_pb2.WARNING]
    assert [line.urn for line in warnings] == [urn(KIND)] * 2
    assert outputs["differences"] == [
        {"name": "NUMA nodes per socket (NumaNodesPerSocket)", "seen": "NPS4", "wanted": "NPS1"}
    ]


def test_a_preview_predicts_nothing_of_an_adoption(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    outputs = plugin.create(KIND, adopted(bare), preview=True)
    assert (outputs["installed"], outputs["power"], bare.requests, engine.lines) == ("", UNKNOWN, 0, [])


def test_a_preview_predicts_that_a_nonce_wipes_the_disks(launch: Launch, engine: Engine, bare: Machine) -> None:
    plugin = launch(engine)  # of its own: the forecast covers all previews of one process
    outputs = plugin.create(KIND, installed(bare), preview=True)
    assert (outputs["installed"], bare.requests) == ("one", 0)
    engine.hear("reinstalls glm-1: wipes its disks")
    plugin.forecast(urn("Stack"))
    engine.hear("glm-1: reinstall, not measured yet: wipes its disks")


@pytest.mark.slow
def test_a_nonce_installs_once(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    inputs = installed(bare)
    outputs = plugin.create(KIND, inputs)
    assert (outputs["installed"], outputs["power"], bare.wiped) == ("one", "On", 1)
    engine.hear("powered on; waits for the installer, ")
    assert {line.ephemeral for line in engine.lines if "waits for" in line.message} == {True}
    with ssh.connect(dataclasses.replace(ssh.Target.from_inputs(inputs), name="glm-1")) as connection:
        assert connection.run("cat /etc/glm-fleet-installed").stdout == "one\n"
    bare.orders.clear()
    again = plugin.update(KIND, inputs, outputs, {**inputs, "bios": {"IommuSupport": "Enabled"}})
    assert (again["installed"], bare.orders, bare.wiped) == ("one", [], 1)
    assert plugin.create(KIND, inputs)["installed"] == "one"  # after the loss of the state
    assert (bare.orders, bare.wiped) == ([], 1)


def test_another_nonce_replaces_which_protection_refuses(plugin: Plugin, bare: Machine) -> None:
    before, after = installed(bare), installed(bare, reinstall="two")
    answer = plugin.diff(KIND, before, {**before, "installed": "one"}, after)
    assert list(answer.replaces) == ["reinstall"]
    assert list(plugin.diff(KIND, before, before, {**before, "wait": 20}).replaces) == []
    adoption = plugin.diff(KIND, adopted(bare), adopted(bare), after)
    assert "reinstall" in adoption.replaces


def test_a_release_is_no_change(plugin: Plugin, bare: Machine) -> None:
    before = installed(bare)
    for old, new in ((before, {**before, "released": True}), ({**before, "released": True}, before)):
        assert plugin.diff(KIND, old, old, new).changes == provider_pb2.DiffResponse.DIFF_NONE


@pytest.mark.slow
def test_an_installation_that_stops_midway_does_not_count_and_the_next_up_continues(
    plugin: Plugin, engine: Engine, bare: Machine
) -> None:
    bare.works, inputs = False, installed(bare, within=2)
    partial = partial_state(expect_error(plugin.create, KIND, inputs))
    assert (partial.properties["installed"], partial.properties["attempt"]) == (
        "",
        {"nonce": "one", "stage": "installing"},
    )
    assert partial.reasons[0].startswith("glm-1: install it from ") and "still on after 2 s" in partial.reasons[0]
    preview = plugin.update(KIND, inputs, partial.properties, inputs, preview=True)
    assert preview["installed"] == "one"
    engine.hear("reinstalls glm-1: continues an installation")
    bare.finish()
    outputs = plugin.update(KIND, inputs, partial.properties, inputs)
    assert (outputs["installed"], outputs["attempt"], bare.wiped) == ("one", {}, 1)


@pytest.mark.slow
def test_a_cancel_ends_an_installation_within_ten_seconds_and_keeps_its_stage(
    launch: Launch, engine: Engine, bare: Machine
) -> None:
    bare.works, plugin = False, launch(engine)  # its own: a cancelled plugin does nothing more
    running = plugin.start(KIND, installed(bare))
    engine.hear("waits for the installer")
    plugin.cancel()
    error = expect_error(running.result, 10)
    assert partial_state(error).properties["attempt"] == {"nonce": "one", "stage": "installing"}


def test_a_bmc_that_refuses_the_login_creates_nothing(plugin: Plugin, bare: Machine) -> None:
    for inputs in (adopted(bare, password="another-word"), installed(bare, password="another-word")):
        error = expect_error(plugin.create, KIND, inputs)
        assert "it refuses us" in error.details() and "another-word" not in error.details()
        assert not error.trailing_metadata()
    assert (bare.orders, bare.wiped) == ([], 0)


def test_a_refresh_reads_the_bios_and_succeeds_where_the_bmc_is_silent(
    plugin: Plugin, engine: Engine, bare: Machine
) -> None:
    inputs = adopted(bare)
    outputs = plugin.create(KIND, inputs)
    bare.bios = {**SETTINGS, "IommuSupport": "Disabled"}
    assert [difference["seen"] for difference in plugin.read(KIND, inputs, outputs)["differences"]] == ["Disabled"]
    bare.shut()
    assert plugin.read(KIND, inputs, outputs) == outputs
    engine.hear("glm-1: read its power over its BMC")
    bare.open()


def test_a_delete_touches_nothing(plugin: Plugin, bare: Machine) -> None:
    plugin.delete(KIND, {**adopted(bare), "installed": "one"})
    assert bare.requests == 0


@pytest.mark.parametrize("absent", ["installer", "serve", "seed", "private"])
def test_an_installation_requires_each_of_its_inputs(plugin: Plugin, bare: Machine, absent: str) -> None:
    inputs = {key: value for key, value in installed(bare).items() if key != absent}
    assert [failure.property for failure in plugin.check(KIND, inputs).failures] == [absent]
    assert list(plugin.check(KIND, {**installed(bare), "private": UNKNOWN, "host_key": UNKNOWN}).failures) == []


# --- other resources of a machine that is installed again


@pytest.mark.slow
def test_a_host_is_set_up_again_on_a_reinstalled_machine(plugin: Plugin, engine: Engine, inputs: Props) -> None:
    first = {**inputs, "node": {**inputs["node"], "install": "one"}}
    outputs = plugin.create("Host", first)
    after = {**inputs, "node": {**inputs["node"], "install": "two"}}
    assert list(plugin.diff("Host", first, outputs, after).replaces) == []
    preview = plugin.update("Host", first, outputs, after, preview=True)
    assert (preview["managed"], preview["gpus"]) == (UNKNOWN, UNKNOWN)
    engine.hear("sets up glm-1 again: the machine is reinstalled")
    assert plugin.update("Host", first, outputs, after)["managed"]["declared"]


def test_the_facts_of_a_reinstalled_node_are_unknown(plugin: Plugin, connection: Props) -> None:
    old = {**connection, "install": "one", "facts": {"kernel": "6.8"}}
    after = {**connection, "install": "two"}
    assert plugin.update("Node", old, old, after, preview=True)["facts"] == UNKNOWN
    assert plugin.update("Node", old, old, {**after, "install": "one"}, preview=True)["facts"] == {"kernel": "6.8"}
