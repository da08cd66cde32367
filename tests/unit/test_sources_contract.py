"""What every node source keeps to, whatever makes its machines: a row a source, the same claims for each."""

import functools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fleet import errors
from fleet.sources import forms
from fleet.stack import settings
from tests.support import pulumi_mocks
from tests.support.pulumi_mocks import FILE, PRIVATE, Supplied, supply
from tests.support.source_table import SOURCES, THREE, Source

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"address", "port", "user", "identity", "host_key", "become", "gpus"}
MAY = NEEDED | {"final_key", "wait", "bastion", "install"}


each = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@functools.cache
def three(source: str) -> Supplied:
    """Return what a source makes of three machines: one run for all claims, which only read it."""
    return supply(SOURCES[source].nodes(**THREE))


@each
def test_each_machine_has_what_the_resource_node_needs_and_nothing_else(source: Source) -> None:
    made = three(source.pool["source"])
    for told in made.machines.values():
        assert NEEDED <= told.keys() <= MAY, (
            "supply() in machines.py returns these inputs of Node (fleet/resources.py: Machine)"
        )
        empty = [key for key in NEEDED if told[key] in (None, "")]
        assert not empty, (
            "if the cloud assigns it, say in `outputs` of the row in tests/support/source_table.py what it returns"
        )
        assert re.match(r"^(ssh-|ecdsa-)\S+ \S+", told["host_key"]), "a public key, pinned before the first connection"


@each
def test_the_machines_come_in_the_order_of_the_file_each_once(source: Source) -> None:
    assert list(three(source.pool["source"]).machines) == list(THREE)


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
    made = three(source.pool["source"])
    private = {name: PRIVATE.format(name=name) for name in THREE}
    for declared in made.resources.values():
        for value in declared.inputs.values():
            marked = isinstance(value, dict) and pulumi_mocks.SECRET in value
            assert marked or "PRIVATE KEY" not in json.dumps(value)
    for told in made.machines.values():
        assert not [key for key in private.values() if key in json.dumps(told)]


@each
def test_what_a_source_makes_is_what_the_machine_s_other_resources_are_deleted_with(source: Source) -> None:
    made = three(source.pool["source"])
    makes = source.pool["source"] not in ("ssh", "redfish")  # whose machines stay
    assert all((machine.resource is not None) is makes for machine in made.made.values())


@each
def test_a_machine_s_own_variables_are_kept(source: Source) -> None:
    told = {"host_sysctls": {"vm.max_map_count": 1}}
    judged = settings.read({"nodes": source.nodes(**{"a-1": {"vars": told}})}, FILE)
    assert judged.machines["a-1"].vars == told


CLOUDS = [pytest.param(name, source.sdk, id=name) for name, source in SOURCES.items() if source.sdk]


@pytest.mark.parametrize(("name", "sdk"), CLOUDS)
def test_the_sdk_of_a_source_is_imported_by_stacks_that_use_it_alone(name: str, sdk: str) -> None:
    script = f"""
import sys
from tests.support import pulumi_mocks
from tests.support.source_table import SOURCES, THREE
pulumi_mocks.supply([SOURCES['ssh'].nodes(**THREE), SOURCES['lab'].nodes(lab={{}})])
assert {sdk.replace("-", "_")!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)


@pytest.mark.parametrize(("name", "sdk"), CLOUDS)
def test_the_sdk_of_a_source_is_pinned_and_checked_with_its_own_classes(name: str, sdk: str) -> None:
    pin, lock = (ROOT / "requirements" / f"{name}.{kind}" for kind in ("in", "txt"))
    assert pin.is_file() and f"\n{sdk}==" in pin.read_text(), f"pin {sdk}==VERSION in requirements/{name}.in"
    assert lock.is_file() and f"\n{sdk}==" in lock.read_text(), f"`make lock` writes requirements/{name}.txt"
    dev = (ROOT / "requirements" / "dev.in").read_text()
    assert f"\n-r {name}.txt\n" in dev, f"add the line `-r {name}.txt` to requirements/dev.in, then `make lock`"
    untyped = {
        module
        for override in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
        for module in override["module"]
    }
    module = f"{sdk.replace('-', '_')}.*"
    assert module in untyped, f"add {module} to the clouds' SDKs in pyproject.toml ([[tool.mypy.overrides]])"
    tests = ROOT / "tests" / "unit" / f"test_sources_{name}.py"
    assert tests.is_file(), (
        f"write {tests.name}: exposure, image, protection, host key; see test_sources_digitalocean.py"
    )


def test_every_source_has_a_row_and_every_row_a_source() -> None:
    for name in sorted({*forms.NAMES} ^ {*SOURCES}):
        assert name in SOURCES, f"add a row for source {name} to SOURCES in tests/support/source_table.py"
        assert name in forms.NAMES, f"no folder fleet/sources/{name}: remove its row in tests/support/source_table.py"


def test_machines_of_all_sources_are_one_fleet_in_the_order_of_the_file() -> None:
    told = [source.nodes(**{f"{name}-1": {}}) for name, source in SOURCES.items()]
    made = supply(told)
    assert list(made.machines) == [f"{name}-1" for name in SOURCES]
    assert {machine["gpus"] for machine in made.machines.values()} == {8}
