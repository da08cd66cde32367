"""What every node source keeps to, whatever makes its machines: a row a source, the same claims for each."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.stack import settings
from tests.support import pulumi_mocks
from tests.support.pulumi_mocks import FILE, FROM, LOGIN, PRIVATE, supply

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"address", "port", "user", "identity", "host_key", "become", "gpus"}
MAY = NEEDED | {"final_key", "wait", "bastion", "install"}


@dataclass(frozen=True)
class Source:
    """One source: its pool without machines, one machine (the smallest that may stand there), a misspelled key of a machine."""

    pool: Mapping[str, Any]
    machine: Mapping[str, Any]
    misspelled: str
    meant: str
    own: Mapping[str, str] = field(default_factory=dict)  # what two machines cannot share
    package: str = ""  # the SDK that it alone imports

    def nodes(self, **machines: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pool with these machines, each with what it has otherwise."""
        return {
            **self.pool,
            "machines": {
                name: {
                    **self.machine,
                    **{key: text.format(place) for key, text in self.own.items()},
                    **own,
                }
                for place, (name, own) in enumerate(machines.items(), start=11)
            },
        }


CLOUD = {"keys": [LOGIN], "ssh_from": [FROM]}
SOURCES = {
    "ssh": Source(
        {"source": "ssh"}, {"host_key": LOGIN.removesuffix(" ops")}, "adress", "address", {"address": "192.0.2.{}"}
    ),
    "lab": Source({"source": "lab", "name": "glm"}, {"system": "debian-12"}, "sytem", "system"),
    "redfish": Source(
        {
            "source": "redfish",
            "defaults": {
                "installer": {"url": "https://mirror.example/debian.iso", "sha256": "0" * 64},
                "serve": "192.0.2.1:8099",
                "seed": {"kind": "debian", "authorized_keys": [LOGIN]},
            },
        },
        {"reinstall": "first"},
        "reinstal",
        "reinstall",
        {"address": "metal-{}.example", "bmc": "https://bmc-{}.example"},
    ),
    "digitalocean": Source(
        {"source": "digitalocean", "region": "atl1", "size": "gpu-mi300x8-1536gb", "image": 188383823, **CLOUD},
        {},
        "regoin",
        "region",
        package="pulumi_digitalocean",
    ),
    "azure": Source(
        {
            "source": "azure",
            "location": "francecentral",
            "size": "Standard_ND96isr_MI300X_v5",
            "image": "microsoft-dsvm:ubuntu-hpc:2404-rocm:24.04.2026080101",
            **CLOUD,
        },
        {},
        "zoen",
        "zone",
        package="pulumi_azure_native",
    ),
    "oci": Source(
        {
            "source": "oci",
            "compartment": "ocid1.compartment.oc1..aaaa",
            "availability_domain": "Uocm:PHX-AD-1",
            "shape": "BM.GPU.MI300X.8",
            "image": "ocid1.image.oc1.phx.aaaa",
            **CLOUD,
        },
        {},
        "shpae",
        "shape",
        package="pulumi_oci",
    ),
}
each = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
THREE: dict[str, Mapping[str, Any]] = {"b-2": {}, "a-1": {}, "c-3": {}}


@each
def test_each_machine_has_what_the_resource_node_needs_and_nothing_else(source: Source) -> None:
    made = supply(source.nodes(**THREE))
    for told in made.machines.values():
        assert NEEDED <= told.keys() <= MAY
        assert all(told[key] not in (None, "") for key in NEEDED)
        assert re.match(r"^(ssh-|ecdsa-)\S+ \S+", told["host_key"]), "a public key, pinned before the first connection"


@each
def test_the_machines_come_in_the_order_of_the_file_each_once(source: Source) -> None:
    assert list(supply(source.nodes(**THREE)).machines) == list(THREE)


@each
def test_an_absent_machine_is_not_made_and_one_that_drains_is(source: Source) -> None:
    made = supply(source.nodes(**{"a-1": {"state": "absent"}, "b-2": {"state": "drain"}, "c-3": {}}))
    assert list(made.machines) == ["b-2", "c-3"]
    assert not [name for _, name in made.resources if "a-1" in name]


@each
def test_a_machine_has_as_many_gpus_as_the_stack_says(source: Source) -> None:
    made = supply(source.nodes(**{"a-1": {"gpus": 4}, "b-2": {}}))
    assert (made.machines["a-1"]["gpus"], made.machines["b-2"]["gpus"]) == (4, 8)


@each
def test_a_key_that_is_misspelled_is_refused_with_the_one_that_was_meant(source: Source) -> None:
    for told, key in (
        ({**source.nodes(**THREE), "buidler": "a-1"}, "builder"),
        (source.nodes(**{"a-1": {source.misspelled: "x"}}), source.meant),
    ):
        with pytest.raises(errors.SettingsError) as caught:
            settings.read({"nodes": told}, FILE)
        assert f"did you mean {key}?" in str(caught.value)


@each
def test_nothing_secret_is_in_clear_in_what_a_source_declares(source: Source) -> None:
    made = supply(source.nodes(**THREE))
    private = {name: PRIVATE.format(name=name) for name in THREE}
    for declared in made.resources.values():
        for value in declared.inputs.values():
            marked = isinstance(value, dict) and pulumi_mocks.SECRET in value
            assert marked or "PRIVATE KEY" not in json.dumps(value)
    for told in made.machines.values():
        assert not [key for key in private.values() if key in json.dumps(told)]


@each
def test_what_a_source_makes_is_what_the_machine_s_other_resources_are_deleted_with(source: Source) -> None:
    made = supply(source.nodes(**THREE))
    makes = source.pool["source"] not in ("ssh", "redfish")  # whose machines stay
    assert all((machine.resource is not None) is makes for machine in made.made.values())


@each
def test_a_machine_s_own_variables_are_kept(source: Source) -> None:
    told = {"host_sysctls": {"vm.max_map_count": 1}}
    judged = settings.read({"nodes": source.nodes(**{"a-1": {"vars": told}})}, FILE)
    assert judged.machines["a-1"].vars == told


@pytest.mark.parametrize("source", [source for source in SOURCES.values() if source.package], ids=lambda it: it.package)
def test_the_sdk_of_a_source_is_imported_by_stacks_that_use_it_alone(source: Source) -> None:
    script = f"""
import sys
from tests.support import pulumi_mocks
from tests.unit.test_sources_contract import SOURCES, THREE
pulumi_mocks.supply([SOURCES['ssh'].nodes(**THREE), SOURCES['lab'].nodes(lab={{}})])
assert {source.package!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)


def test_every_source_has_a_row_here() -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": {"source": "none", "machines": {}}}, FILE)
    assert caught.value.allowed == ", ".join(sorted(SOURCES))


def test_machines_of_all_sources_are_one_fleet_in_the_order_of_the_file() -> None:
    told = [source.nodes(**{f"{name}-1": {}}) for name, source in SOURCES.items()]
    made = supply(told)
    assert list(made.machines) == [f"{name}-1" for name in SOURCES]
    assert {machine["gpus"] for machine in made.machines.values()} == {8}
