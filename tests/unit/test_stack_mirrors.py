"""A mirror replaces the host in every URL of its kind, and `fleet mirrors` lists what a stack needs."""

from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors
from fleet.cli import main
from fleet.stack import mirrors, requirements, role_vars, settings, stack_file, validate
from tests.support.builders import prod

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "stack"
ROLES = role_vars.load(ROOT / "roles")
ALL = {
    "rocm": "https://mirror.example/radeon/",
    "docker": "https://mirror.example/docker",
    "git": "https://git.example",
    "hub": "https://hub.example",
    "registry": "registry.other:5000",
}


def variables(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of prod-1 in a stack."""
    return validate.variables(settings.read(raw, "file"), ROLES, "prod-1")


def test_every_url_is_that_of_its_mirror() -> None:
    values = variables(prod(mirrors=ALL))
    amd = "https://mirror.example/radeon"
    assert values["rocm_repository_url"] == f"{amd}/rocm/apt/{{{{ rocm_version }}}}"
    assert values["rocm_driver_repository_url"] == f"{amd}/amdgpu/{{{{ rocm_driver_release }}}}/ubuntu"
    assert values["transformers_repository"] == "https://git.example/huggingface/transformers.git"
    assert values["weights_endpoint"] == "https://hub.example"
    assert values["transformers_base_image"].startswith("registry.other:5000/vllm/vllm-openai-rocm@sha256:")
    assert "docker_repository_url" not in values  # no machine has Docker's own packages


def test_every_required_address_is_a_mirror() -> None:
    stack = settings.read(prod(mirrors=ALL), "file")
    addresses = requirements.of_machine(stack, ROLES, "prod-1", "prod")["addresses"]
    ours = {"registry.example:443"}  # where the serving image is pushed
    assert set(addresses) - ours == {"mirror.example:443", "git.example:443", "hub.example:443", "registry.other:5000"}


def test_without_mirrors_nothing_changes() -> None:
    assert variables(prod()) == variables(prod(mirrors={}))
    assert "rocm_repository_url" not in variables(prod())


def test_a_mirror_replaces_the_host_in_a_url_of_the_stack_s_own() -> None:
    raw = prod(mirrors={"hub": "https://hub.example/cache"})
    raw["vars"]["weights_endpoint"] = "https://hub.other/v2"
    assert variables(raw)["weights_endpoint"] == "https://hub.example/cache/v2"


@pytest.mark.parametrize(
    "image", ["vllm/vllm@sha256:ab", "registry.example/vllm/vllm@sha256:ab", "localhost/vllm/vllm@sha256:ab"]
)
def test_a_registry_replaces_the_one_of_a_name_or_is_added(image: str) -> None:
    registry = settings.Mirrors(registry="registry.other")
    assert mirrors.mirrored_image(registry, image) == "registry.other/vllm/vllm@sha256:ab"


WRONG = {
    "hub": "hub.example",
    "rocm": "ftp://mirror",
    "registry": "https://registry.example",
    "hbu": "https://hub.example",
}


@pytest.mark.parametrize(("key", "value"), WRONG.items())
def test_a_wrong_mirror_is_refused(key: str, value: str) -> None:
    with pytest.raises(errors.SettingsError, match=f"mirrors.{key}"):
        settings.read(prod(mirrors={key: value}), "file")


def test_fleet_mirrors_lists_each_item_once_for_all_machines() -> None:
    result = testing.CliRunner().invoke(main.main, ["mirrors", "-s", "prod"])
    assert (result.exit_code, result.output) == (0, (GOLDEN / "mirrors.txt").read_text())


def test_the_image_of_the_acceptance_is_an_item_of_the_mirror() -> None:
    image = f"registry.example/rocm-validation@sha256:{'0' * 64}"
    stack = settings.read(prod(mirrors=ALL, acceptance={"image": image}), "file")
    mirrored = f"registry.other:5000/rocm-validation@sha256:{'0' * 64}"
    assert list(mirrors.acceptance_items(stack)) == [mirrors.Item("image", mirrored, 0, "registry.other:5000")]


def test_a_stack_without_acceptance_fetches_nothing_for_it() -> None:
    assert not list(mirrors.acceptance_items(settings.read(prod(mirrors=ALL), "file")))


@pytest.mark.parametrize("name", ["dev", "staging", "prod", "dr", "lab"])
def test_every_stack_has_items_of_each_kind(name: str) -> None:
    stack = stack_file.read(name, ROOT)
    items = mirrors.items(validate.machine_plan(stack, ROLES, stack.present[0]).values)
    assert {"package", "commit", "weights"} <= {item.kind for item in items}


def test_a_machine_without_gpus_fetches_only_its_system_s_packages() -> None:
    raw = prod()
    raw["nodes"]["machines"]["prod-2"] |= {"gpus": 0, "vars": {}}
    stack = settings.read(raw, "file")
    items = list(mirrors.items(validate.machine_plan(stack, ROLES, "prod-2").values))
    assert {item.source for item in items} == {mirrors.DISTRIBUTION} and items[0].name == "ca-certificates"
    (proxy,) = mirrors.gateway_items(stack)
    assert list(mirrors.gateway_items(stack_file.read("staging", ROOT))) == []
    assert (proxy.name, proxy.source) == ("haproxy", mirrors.DISTRIBUTION)


def test_the_tools_for_a_file_system_are_an_item_of_the_mirror() -> None:
    disks = [{"serial": f"S{number}", "path": f"/d{number}", "type": "xfs"} for number in (1, 2)]
    assert [item.name for item in mirrors.items({"host_filesystems": disks})].count("xfsprogs") == 1
