"""The resource BareMetal over gRPC: a machine is looked at; a nonce installs it, once; what that wipes is foretold.

The machine is sushy-emulator's (tests/support/redfish_machine.py). What its messages say is in tests/machine/golden/redfish.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from pulumi.runtime.proto import engine_pb2, provider_pb2

from fleet import ssh
from tests.support.plugin import UNKNOWN, Engine, Launch, Plugin, Props, half_made, urn
from tests.support.redfish_machine import SETTINGS, USER, UUID, WORD, Machine, machine

KIND = "BareMetal"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """A machine that is switched off, its disk empty."""
    with machine(tmp_path) as made:
        yield made


def adopted(bare: Machine, **more: object) -> Props:
    """Return the inputs of a machine that is looked at."""
    reach = {"address": "127.0.0.1", "port": bare.ssh_port, "user": "root", "identity": str(bare.folder / "user")}
    who = {"username": USER, "password": WORD, "ca": str(bare.folder / "ca.pem")}
    return {"name": "glm-1", "bmc": bare.url, "system": UUID, **who, **reach, **more}


def installed(bare: Machine, **more: object) -> Props:
    """Return the inputs of one that is to be installed."""
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


def test_a_machine_without_a_nonce_is_only_looked_at(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    bare.bios = {**SETTINGS, "NumaNodesPerSocket": "NPS4"}
    made = plugin.create(KIND, adopted(bare))
    assert (made["power"], made["settings"], made["installed"]) == ("Off", bare.bios, "")
    assert (bare.told, bare.wiped) == ([], 0)
    engine.hear("BIOS: NUMA nodes per socket (NumaNodesPerSocket) is NPS4, wanted NPS1")
    engine.hear("its power is off")
    warnings = [line for line in engine.lines if line.severity == engine_pb2.WARNING]
    assert [line.urn for line in warnings] == [urn(KIND)] * 2
    assert made["differences"] == [
        {"name": "NUMA nodes per socket (NumaNodesPerSocket)", "seen": "NPS4", "wanted": "NPS1"}
    ]


def test_adopting_a_machine_foretells_nothing_but_that_it_is_new(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    seen = plugin.create(KIND, adopted(bare), preview=True)
    assert (seen["installed"], seen["power"], bare.asked, engine.lines) == ("", UNKNOWN, 0, [])


def test_a_nonce_foretells_that_the_disks_are_wiped(launch: Launch, engine: Engine, bare: Machine) -> None:
    plugin = launch(engine)  # a preview's own: the forecast is of all that one process has foretold
    seen = plugin.create(KIND, installed(bare), preview=True)
    assert (seen["installed"], bare.asked) == ("one", 0)
    engine.hear("reinstalls glm-1: wipes its disks")
    plugin.forecast(urn("Stack"))
    engine.hear("glm-1: reinstall, not measured yet: wipes its disks")


@pytest.mark.slow
def test_a_nonce_installs_once(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    inputs = installed(bare)
    made = plugin.create(KIND, inputs)
    assert (made["installed"], made["power"], bare.wiped) == ("one", "On", 1)
    engine.hear("powered on; waits for the installer, ")
    assert {line.ephemeral for line in engine.lines if "waits for" in line.message} == {True}
    with ssh.connect(dataclasses.replace(ssh.Target.from_inputs(inputs), name="glm-1")) as connection:
        assert connection.run("cat /etc/glm-fleet-installed").stdout == "one\n"
    bare.told.clear()
    again = plugin.update(KIND, inputs, made, {**inputs, "bios": {"IommuSupport": "Enabled"}})
    assert (again["installed"], bare.told, bare.wiped) == ("one", [], 1)
    assert plugin.create(KIND, inputs)["installed"] == "one"  # a state that was lost
    assert (bare.told, bare.wiped) == ([], 1)


def test_another_nonce_replaces_and_so_is_refused_of_what_is_protected(plugin: Plugin, bare: Machine) -> None:
    before, after = installed(bare), installed(bare, reinstall="two")
    answer = plugin.diff(KIND, before, {**before, "installed": "one"}, after)
    assert list(answer.replaces) == ["reinstall"]
    assert list(plugin.diff(KIND, before, before, {**before, "wait": 20}).replaces) == []
    adoption = plugin.diff(KIND, adopted(bare), adopted(bare), after)
    assert "reinstall" in adoption.replaces


def test_leave_to_wipe_is_no_change(plugin: Plugin, bare: Machine) -> None:
    before = installed(bare)
    for one, other in ((before, {**before, "released": True}), ({**before, "released": True}, before)):
        assert plugin.diff(KIND, one, one, other).changes == provider_pb2.DiffResponse.DIFF_NONE


@pytest.mark.slow
def test_an_installation_that_stops_midway_is_not_taken_for_done_and_the_next_up_goes_on(
    plugin: Plugin, engine: Engine, bare: Machine
) -> None:
    bare.works, inputs = False, installed(bare, within=2)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(KIND, inputs)
    half = half_made(caught.value)
    assert (half.properties["installed"], half.properties["attempt"]) == ("", {"nonce": "one", "stage": "installing"})
    assert half.reasons[0].startswith("glm-1: install it from ") and "still on after 2 s" in half.reasons[0]
    foretold = plugin.update(KIND, inputs, half.properties, inputs, preview=True)
    assert foretold["installed"] == "one"
    engine.hear("reinstalls glm-1: continues an installation")
    bare.finish()
    made = plugin.update(KIND, inputs, half.properties, inputs)
    assert (made["installed"], made["attempt"], bare.wiped) == ("one", {}, 1)


@pytest.mark.slow
def test_a_cancel_ends_it_within_ten_seconds_and_keeps_what_was_reached(
    launch: Launch, engine: Engine, bare: Machine
) -> None:
    bare.works, plugin = False, launch(engine)  # its own: a cancelled plugin does nothing more
    running = plugin.start(KIND, installed(bare))
    engine.hear("waits for the installer")
    plugin.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        running.result(10)
    assert half_made(caught.value).properties["attempt"] == {"nonce": "one", "stage": "installing"}


def test_a_bmc_that_refuses_us_makes_nothing(plugin: Plugin, bare: Machine) -> None:
    for inputs in (adopted(bare, password="another-word"), installed(bare, password="another-word")):
        with pytest.raises(grpc.RpcError) as caught:
            plugin.create(KIND, inputs)
        assert "it refuses us" in caught.value.details() and "another-word" not in caught.value.details()
        assert not caught.value.trailing_metadata()
    assert (bare.told, bare.wiped) == ([], 0)


def test_a_refresh_looks_and_a_bmc_that_is_silent_fails_nothing(plugin: Plugin, engine: Engine, bare: Machine) -> None:
    inputs = adopted(bare)
    made = plugin.create(KIND, inputs)
    bare.bios = {**SETTINGS, "IommuSupport": "Disabled"}
    assert [one["seen"] for one in plugin.read(KIND, inputs, made)["differences"]] == ["Disabled"]
    bare.shut()
    assert plugin.read(KIND, inputs, made) == made
    engine.hear("glm-1: read its power over its BMC")
    bare.open()


def test_deleting_it_touches_nothing(plugin: Plugin, bare: Machine) -> None:
    plugin.delete(KIND, {**adopted(bare), "installed": "one"})
    assert bare.asked == 0


@pytest.mark.parametrize("absent", ["installer", "serve", "seed", "private"])
def test_what_an_installation_needs_must_be_there(plugin: Plugin, bare: Machine, absent: str) -> None:
    inputs = {key: value for key, value in installed(bare).items() if key != absent}
    assert [one.property for one in plugin.check(KIND, inputs).failures] == [absent]
    assert list(plugin.check(KIND, {**installed(bare), "private": UNKNOWN, "host_key": UNKNOWN}).failures) == []


# --- what stands on a machine that is installed anew


@pytest.mark.slow
def test_what_stood_on_the_machine_before_is_set_up_anew(plugin: Plugin, engine: Engine, inputs: Props) -> None:
    first = {**inputs, "node": {**inputs["node"], "install": "one"}}
    made = plugin.create("Host", first)
    after = {**inputs, "node": {**inputs["node"], "install": "two"}}
    assert list(plugin.diff("Host", first, made, after).replaces) == []
    foretold = plugin.update("Host", first, made, after, preview=True)
    assert (foretold["managed"], foretold["gpus"]) == (UNKNOWN, UNKNOWN)
    engine.hear("sets up glm-1 again: the machine is reinstalled")
    assert plugin.update("Host", first, made, after)["managed"]["declared"]


def test_a_node_that_is_installed_anew_is_read_anew(plugin: Plugin, connection: Props) -> None:
    old = {**connection, "install": "one", "facts": {"kernel": "6.8"}}
    after = {**connection, "install": "two"}
    assert plugin.update("Node", old, old, after, preview=True)["facts"] == UNKNOWN
    assert plugin.update("Node", old, old, {**after, "install": "one"}, preview=True)["facts"] == {"kernel": "6.8"}
