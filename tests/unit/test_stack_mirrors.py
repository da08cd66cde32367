"""A mirror takes the place of the host in every URL of its kind, and `fleet mirrors` lists what a stack needs."""

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


def planned(**changes: Any) -> dict[str, Any]:
    """Return the variables of prod-1 in a changed stack prod."""
    raw = prod(**changes)
    return validate.variables(settings.read(raw, "file"), ROLES, "prod-1")


def test_all_that_is_fetched_comes_from_the_mirrors() -> None:
    values = planned(mirrors=ALL)
    assert values["rocm_repository_url"] == "https://mirror.example/radeon/rocm/apt/{{ rocm_version }}"
    assert (
        values["rocm_driver_repository_url"] == "https://mirror.example/radeon/amdgpu/{{ rocm_driver_release }}/ubuntu"
    )
    assert values["transformers_repository"] == "https://git.example/huggingface/transformers.git"
    assert values["weights_endpoint"] == "https://hub.example"
    assert values["transformers_base_image"].startswith("registry.other:5000/vllm/vllm-openai-rocm@sha256:")
    assert "docker_repository_url" not in values  # nobody asks for Docker's own packages


def test_no_address_outside_of_the_mirrors_is_left() -> None:
    found = settings.read(prod(mirrors=ALL), "file")
    told = requirements.of_machine(found, ROLES, "prod-1", "prod")["addresses"]
    ours = {"registry.example:443"}  # where the serving image is pushed
    assert set(told) - ours == {"mirror.example:443", "git.example:443", "hub.example:443", "registry.other:5000"}


def test_without_mirrors_nothing_changes() -> None:
    assert planned() == planned(mirrors={})
    assert "rocm_repository_url" not in planned()


def test_a_mirror_takes_the_host_s_place_in_a_url_of_the_stack_s_own() -> None:
    raw = prod(mirrors={"hub": "https://hub.example/cache"})
    raw["vars"]["weights_endpoint"] = "https://hub.other/v2"
    assert (
        validate.variables(settings.read(raw, "file"), ROLES, "prod-1")["weights_endpoint"]
        == "https://hub.example/cache/v2"
    )


@pytest.mark.parametrize(
    "image", ["vllm/vllm@sha256:ab", "registry.example/vllm/vllm@sha256:ab", "localhost/vllm/vllm@sha256:ab"]
)
def test_a_registry_is_put_before_a_name_with_or_without_one(image: str) -> None:
    assert (
        mirrors.mirrored_image(settings.Mirrors(registry="registry.other"), image)
        == "registry.other/vllm/vllm@sha256:ab"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hub", "hub.example"),
        ("rocm", "ftp://mirror"),
        ("registry", "https://registry.example"),
        ("hbu", "https://hub.example"),
    ],
)
def test_what_is_no_mirror_is_told(key: str, value: str) -> None:
    with pytest.raises(errors.SettingsError, match=f"mirrors.{key}"):
        settings.read(prod(mirrors={key: value}), "file")


def test_what_must_be_mirrored_is_listed_once_for_all_machines() -> None:
    done = testing.CliRunner().invoke(main.main, ["mirrors", "-s", "prod"])
    assert (done.exit_code, done.output) == (0, (GOLDEN / "mirrors.txt").read_text())


def test_what_machines_are_measured_with_must_be_mirrored_too() -> None:
    image = f"registry.example/rocm-validation@sha256:{'0' * 64}"
    found = settings.read(prod(mirrors=ALL, acceptance={"image": image}), "file")
    there = f"registry.other:5000/rocm-validation@sha256:{'0' * 64}"
    assert list(mirrors.acceptance_items(found)) == [mirrors.Item("image", there, 0, "registry.other:5000")]


def test_a_stack_that_measures_nothing_fetches_nothing_for_it() -> None:
    assert not list(mirrors.acceptance_items(settings.read(prod(mirrors=ALL), "file")))


def test_every_stack_can_tell_what_it_fetches() -> None:
    for stack in ("dev", "staging", "prod", "dr", "lab"):
        found = stack_file.read(stack, ROOT)
        kinds = {one.kind for one in mirrors.items(validate.machine_plan(found, ROLES, found.present[0]).values)}
        assert {"package", "commit", "weights"} <= kinds


def test_what_makes_a_file_system_must_be_mirrored_too() -> None:
    disks = [{"serial": f"S{number}", "path": f"/d{number}", "type": "xfs"} for number in (1, 2)]
    items = [one.name for one in mirrors.items({"host_filesystems": disks})]
    assert items.count("xfsprogs") == 1
