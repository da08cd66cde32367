"""The contract of every node source: a row for each source, the same claims for each."""

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
    """Return what a source supplies for three machines: one run for all claims, which only read it."""
    return supply(SOURCES[source].nodes(**THREE))


@each
def test_each_machine_has_the_inputs_of_the_resource_node_and_no_others(source: Source) -> None:
    for inputs in three(source.pool["source"]).machines.values():
        expected = "supply() in machines.py returns these inputs of Node (fleet/resources.py: Machine)"
        assert NEEDED <= inputs.keys() <= MAY, expected
        empty = [key for key in NEEDED if inputs[key] in (None, "")]
        row = "if the cloud assigns it, say in `outputs` of the row in tests/support/source_table.py what it returns"
        assert not empty, row
        assert re.match(r"^(ssh-|ecdsa-)\S+ \S+", inputs["host_key"]), (
            "a public key, pinned before the first connection"
        )


@each
def test_the_machines_have_the_order_of_the_file_each_once(source: Source) -> None:
    assert list(three(source.pool["source"]).machines) == list(THREE)


@each
def test_an_absent_machine_is_not_supplied_and_one_that_drains_is(source: Source) -> None:
    supplied = supply(source.nodes(**{"a-1": {"state": "absent"}, "b-2": {"state": "drain"}, "c-3": {}}))
    assert list(supplied.machines) == ["b-2", "c-3"]
    assert not [name for _, name in supplied.resources if "a-1" in name]


@each
def test_a_machine_has_as_many_gpus_as_the_stack_says(source: Source) -> None:
    machines = supply(source.nodes(**{"a-1": {"gpus": 4}, "b-2": {}})).machines
    assert (machines["a-1"]["gpus"], machines["b-2"]["gpus"]) == (4, 8)


@each
def test_a_misspelled_key_is_refused_with_the_right_one(source: Source) -> None:
    for nodes, key in (
        ({**source.nodes(**THREE), "buidler": "a-1"}, "builder"),
        (source.nodes(**{"a-1": {source.misspelled: "x"}}), source.meant),
    ):
        with pytest.raises(errors.SettingsError) as caught:
            settings.read({"nodes": nodes}, FILE)
        assert f"did you mean {key}?" in str(caught.value)


@each
def test_a_source_declares_no_secret_in_clear(source: Source) -> None:
    supplied = three(source.pool["source"])
    for resource in supplied.resources.values():
        for value in resource.inputs.values():
            marked = isinstance(value, dict) and pulumi_mocks.SECRET in value
            assert marked or "PRIVATE KEY" not in json.dumps(value)
    for inputs in supplied.machines.values():
        assert not [name for name in THREE if PRIVATE.format(name=name) in json.dumps(inputs)]


@each
def test_the_resources_of_a_machine_are_deleted_with_the_one_that_the_source_creates(source: Source) -> None:
    creates = source.pool["source"] not in ("ssh", "redfish")  # whose machines stay
    machines = three(source.pool["source"]).by_machine.values()
    assert all((machine.resource is not None) is creates for machine in machines)


@each
def test_a_machine_s_own_variables_are_kept(source: Source) -> None:
    own = {"host_sysctls": {"vm.max_map_count": 1}}
    stack = settings.read({"nodes": source.nodes(**{"a-1": {"vars": own}})}, FILE)
    assert stack.machines["a-1"].vars == own


CLOUDS = [pytest.param(name, source.sdk, id=name) for name, source in SOURCES.items() if source.sdk]


@pytest.mark.parametrize(("name", "sdk"), CLOUDS)
def test_only_stacks_that_use_a_source_import_its_sdk(name: str, sdk: str) -> None:
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
    machines = supply([source.nodes(**{f"{name}-1": {}}) for name, source in SOURCES.items()]).machines
    assert list(machines) == [f"{name}-1" for name in SOURCES]
    assert {machine["gpus"] for machine in machines.values()} == {8}
