"""A mistake in a stack file is told with file, key, value, what is allowed and the nearest name: golden/stack_settings/."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.sources import forms
from fleet.sources.ssh.form import Nodes
from fleet.stack import inventory, role_vars, settings, validate
from tests.support.builders import FILE, KEY, REMOVE, changed

GOLDEN = Path(__file__).parent / "golden" / "stack_settings"


def stack() -> dict[str, Any]:
    """Return a right stack of two machines, as Pulumi hands it over: scalars are text."""
    return {
        "nodes": {
            "source": "ssh",
            "defaults": {"user": "root", "gpus": 8},
            "machines": {
                "prod-1": {"address": "192.0.2.11", "host_key": KEY},
                "prod-2": {"address": "192.0.2.12", "host_key": KEY, "port": 2222, "gpus": 4},
            },
        },
        "vars": {"vllm_served_model_name": "zai-org/GLM-4.6V"},
        "parallel": "4",
    }


LAB: dict[str, Any] = {"source": "lab", "machines": {"glm-1": {"system": "debian-12", "gpus": 1}}}


def with_state(state: str) -> dict[str, Any]:
    """Return the machines of the right stack, the second of them in another state."""
    machines = stack()["nodes"]["machines"]
    return {**machines, "prod-2": {**machines["prod-2"], "state": state}}


# claim → what is changed in the right stack: the path to a key, and its new value
MISTAKES: dict[str, tuple[list[str], Any]] = {
    "a-misspelled-key": (["paralel"], "4"),
    "a-misspelled-key-of-a-machine": (["nodes", "machines", "prod-1", "adress"], "192.0.2.11"),
    "a-misspelled-key-of-the-probes": (["probes"], {"min_iuo": 0.5}),
    "an-unknown-source": (["nodes", "source"], "shh"),
    "no-source": (["nodes", "source"], REMOVE),
    "no-nodes": (["nodes"], REMOVE),
    "no-machines": (["nodes", "machines"], {}),
    "no-host-key": (["nodes", "machines", "prod-1", "host_key"], REMOVE),
    "a-host-key-that-is-none": (["nodes", "machines", "prod-1", "host_key"], "SHA256:abc"),
    "a-port-out-of-range": (["nodes", "machines", "prod-1", "port"], 70000),
    "a-machine-name-with-an-underscore": (["nodes", "machines", "prod_3"], {"address": "192.0.2.13", "host_key": KEY}),
    "one-host-under-two-names": (["nodes", "machines", "prod-3"], {"address": "192.0.2.11", "host_key": KEY}),
    "a-builder-that-is-no-machine": (["nodes", "builder"], "prod-11"),
    "parallel-is-no-number": (["parallel"], "many"),
    "min-iou-above-one": (["probes"], {"min_iou": 50}),
    "a-waiver-without-a-reason": (["waivers"], {"no-ptrace": {"expires": "2026-12-31"}}),
    "a-waiver-with-an-empty-reason": (["waivers"], {"no-ptrace": {"reason": "", "expires": "2026-12-31"}}),
    "a-waiver-without-a-day": (["waivers"], {"no-ptrace": {"reason": "profile the engine"}}),
    "a-waiver-until-soon": (["waivers"], {"no-ptrace": {"reason": "profile the engine", "expires": "soon"}}),
    "a-misspelled-key-of-a-waiver": (
        ["waivers"],
        {"no-ptrace": {"reason": "profile the engine", "expires": "2026-12-31", "expire": "2026-12-31"}},
    ),
    "a-release-of-no-machine": (["release"], {"prod-22": "mainboard replaced"}),
    "a-release-without-a-reason": (["release"], {"prod-2": ""}),
    "a-bastion-without-a-host-key": (["nodes", "defaults", "bastion"], {"address": "192.0.2.1"}),
    "a-misspelled-key-of-a-bastion": (
        ["nodes", "machines", "prod-2", "bastion"],
        {"address": "192.0.2.1", "host_key": KEY, "usr": "jump"},
    ),
    "a-state-that-does-not-exist": (["nodes", "machines", "prod-2", "state"], "drained"),
    "a-builder-that-is-absent": (
        ["nodes"],
        {**stack()["nodes"], "builder": "prod-2", "machines": with_state("absent")},
    ),
    "a-name-in-two-sources": (
        ["nodes"],
        [stack()["nodes"], {"source": "lab", "machines": {"prod-2": {"system": "debian-12"}}}],
    ),
    "a-misspelled-key-in-the-second-source": (
        ["nodes"],
        [stack()["nodes"], {"source": "lab", "machines": {"glm-1": {"sytem": "debian-12", "system": "debian-12"}}}],
    ),
    "two-builders": (
        ["nodes"],
        [{**stack()["nodes"], "builder": "prod-1"}, {**LAB, "builder": "glm-1"}],
    ),
    "no-sources": (["nodes"], []),
    "a-lab-system-that-does-not-exist": (
        ["nodes"],
        {"source": "lab", "machines": {"glm-1": {"system": "ubuntu-20.04"}}},
    ),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_told(claim: str) -> None:
    raw = changed(stack(), *MISTAKES[claim])
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(raw, FILE)
    expected = (GOLDEN / f"{claim}.txt").read_text().replace("SOURCES", ", ".join(forms.NAMES))
    assert f"{caught.value}\n" == expected


def test_two_mistakes_are_told_together() -> None:
    raw = changed(changed(stack(), ["paralel"], "4"), ["nodes", "builder"], 5)
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(raw, FILE)
    told = [str(caught.value), *caught.value.__notes__]
    assert ["paralel" in text for text in told].count(True) == 1
    assert ["nodes.builder" in text for text in told].count(True) == 1


def test_a_machine_takes_what_it_does_not_say_from_the_defaults() -> None:
    nodes = settings.read(stack(), FILE).nodes[0]
    assert isinstance(nodes, Nodes)
    assert nodes.connection("prod-1") == {
        "address": "192.0.2.11",
        "port": 22,
        "user": "root",
        "identity": "~/.ssh/id_ed25519",
        "host_key": KEY,
        "become": False,
        "gpus": 8,
        "wait": 120,
    }
    assert nodes.connection("prod-2")["port"] == 2222
    assert nodes.gpus("prod-2") == 4


@pytest.mark.parametrize("told", ["2026-12-31", "2026-12-31 00:00:00 +0000 UTC"])
def test_a_waivers_day_is_one_however_yaml_reads_it(told: str) -> None:
    raw = changed(stack(), ["waivers"], {"no-ptrace": {"reason": "profile the engine", "expires": told}})
    waiver = settings.read(raw, FILE).waivers["no-ptrace"]
    assert (waiver.reason, waiver.expires) == ("profile the engine", datetime.date(2026, 12, 31))


def test_the_first_machine_builds_unless_another_is_named() -> None:
    assert settings.read(stack(), FILE).builder == "prod-1"
    assert settings.read(changed(stack(), ["nodes", "builder"], "prod-2"), FILE).builder == "prod-2"


def test_a_bastion_is_the_pool_s_or_the_machine_s_own_and_logs_in_with_the_machine_s_key() -> None:
    raw = changed(stack(), ["nodes", "defaults", "bastion"], {"address": "192.0.2.1", "host_key": KEY, "user": "jump"})
    raw = changed(
        raw,
        ["nodes", "machines", "prod-2", "bastion"],
        {"address": "192.0.2.2", "host_key": KEY, "identity": "~/.ssh/own"},
    )
    nodes = settings.read(raw, FILE).nodes[0]
    assert isinstance(nodes, Nodes)
    one, two = (nodes.connection(name)["bastion"] for name in ("prod-1", "prod-2"))
    assert (one["address"], one["user"], one["identity"]) == ("192.0.2.1", "jump", "~/.ssh/id_ed25519")
    assert (two["address"], two["user"], two["identity"]) == ("192.0.2.2", "root", "~/.ssh/own")


def test_where_a_machine_stands_is_the_pool_s_or_its_own_and_no_part_of_how_it_is_reached() -> None:
    raw = changed(stack(), ["nodes", "defaults", "zone"], "a")
    raw = changed(raw, ["nodes", "machines", "prod-2", "rack"], "12")
    nodes = settings.read(raw, FILE).nodes[0]
    assert isinstance(nodes, Nodes)
    assert (nodes.place("prod-1"), nodes.place("prod-2")) == ({"zone": "a"}, {"rack": "12", "zone": "a"})
    assert not {"rack", "zone"} & nodes.connection("prod-2").keys()


def test_an_absent_machine_is_no_part_of_the_fleet_and_builds_nothing() -> None:
    raw = changed(stack(), ["nodes", "machines", "prod-1", "state"], "absent")
    found = settings.read(raw, FILE)
    assert (found.present, found.builder) == (["prod-2"], "prod-2")


def test_a_fleet_of_absent_machines_is_told() -> None:
    raw = changed(stack(), ["nodes", "machines", "prod-1", "state"], "absent")
    with pytest.raises(errors.SettingsError, match="every machine is absent"):
        settings.read(changed(raw, ["nodes", "machines", "prod-2", "state"], "absent"), FILE)


def test_machines_of_several_sources_are_one_fleet() -> None:
    found = settings.read({**stack(), "nodes": [stack()["nodes"], LAB]}, FILE)
    assert found.present == ["prod-1", "prod-2", "glm-1"]
    assert [found.gpus(name) for name in found.present] == [8, 4, 1]
    assert [found.key(name) for name in ("prod-1", "glm-1")] == ["nodes[0].machines.prod-1", "nodes[1].machines.glm-1"]
    assert [found.protected(name) for name in ("prod-1", "glm-1")] == [True, False]


def inventory_of(tmp_path: Path, text: str) -> settings.Settings:
    """Read the right stack with its machines in a file of their own, which holds this text."""
    (tmp_path / "machines.yaml").write_text(text)
    raw = changed(stack(), ["nodes", "machines"], "machines.yaml")
    return settings.read(*_with_file(raw, tmp_path))


def _with_file(raw: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str, dict[str, str]]:
    whole, files = inventory.expand(raw, folder, FILE)
    return whole, FILE, files


def test_machines_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    found = inventory_of(tmp_path, yaml.safe_dump(stack()["nodes"]["machines"]))
    assert found.model_dump() == settings.read(stack(), FILE).model_dump()


@pytest.mark.parametrize(
    ("claim", "text"),
    {
        "a-mistake-in-a-file-of-machines": "prod-1: {adress: 192.0.2.11}\n",
        "a-file-of-machines-that-is-no-mapping": "- prod-1\n",
        "a-file-of-machines-that-is-no-yaml": "prod-1: {address\n",
    }.items(),
)
def test_a_mistake_in_a_file_of_machines_is_told_there(claim: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        inventory_of(tmp_path, text)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert f"{told}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_a_file_of_machines_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match=r'nodes\.machines: "machines\.yaml": no such file or directory'):
        _with_file(changed(stack(), ["nodes", "machines"], "machines.yaml"), tmp_path)


def test_a_rule_that_a_machine_of_a_file_breaks_is_told_there(tmp_path: Path) -> None:
    machines = changed(stack()["nodes"]["machines"], ["prod-1", "vars"], {"vllm_shm_sise": "1g"})
    found = inventory_of(tmp_path, yaml.safe_dump(machines))
    roles = role_vars.load(Path(__file__).resolve().parents[2] / "roles")
    mistakes = validate.validate(found, roles, FILE, datetime.date(2026, 11, 1)).mistakes
    assert [(one.file, one.key) for one in mistakes] == [("stacks/machines.yaml", "prod-1.vars.vllm_shm_sise")]
