"""A run of Image gets the image of the state, so that a registry cannot swap it for the same recipe: fleet/provider/image.py."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.provider.base import Request
from fleet.provider.image import Image
from fleet.provider.properties import UNKNOWN
from fleet.provider.slots import Slots

OUTPUTS = ("image", "commit", "version", "recipe")
INPUTS = {
    "node": {"name": "glm-1", "address": "192.0.2.7", "port": 22, "user": "root", "host_key": "k", "identity": "/k"},
    "roles": {"transformers": ""},
    "vars": {"transformers_commit": "a" * 40},
}
RESULTS = {
    "image": "registry.example/glm@sha256:" + "ab" * 32,
    "commit": "a" * 40,
    "version": "5.19.0.dev0",
    "recipe": "12" * 32,
}


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The variables of each run."""
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    return []


@pytest.fixture
def image(variables: list[dict[str, Any]]) -> Image:
    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        variables.append({**job.variables, **getattr(job, "data", {})})
        return converge.Outcome({"fleet_image": RESULTS}, managed_set.Declared({}), 0, 1, {})

    return Image("Image", OUTPUTS, Slots(), run=run, read=lambda *_: [{}])


def apply(image: Image, old: dict[str, Any] | None = None) -> dict[str, Any]:
    urn = "urn:pulumi:prod::glm-fleet::fleet:index:Image::glm-1"
    return image.apply(Request(urn=urn, report=lambda *_: None, cancelled=threading.Event()), INPUTS, old)


def test_the_next_run_gets_image_and_recipe_of_the_state(image: Image, variables: list[dict[str, Any]]) -> None:
    first = apply(image)
    apply(image, first)
    assert "image_of_state" not in variables[0]
    assert variables[1]["image_of_state"] == {"image": RESULTS["image"], "recipe": RESULTS["recipe"]}
    assert "image_of_state" not in first["vars"]  # it is no setting: it makes no difference of the resource


def test_a_state_without_a_recipe_compares_nothing_and_does_not_differ(
    image: Image, variables: list[dict[str, Any]]
) -> None:
    old = {name: value for name, value in apply(image).items() if name != "recipe"}
    assert "recipe" not in image.planned_outputs(INPUTS, INPUTS, old)
    after = apply(image, old)
    assert "image_of_state" not in variables[1] and after["recipe"] == RESULTS["recipe"]


def test_another_digest_that_is_accepted_is_another_image_in_the_preview(image: Image) -> None:
    old = apply(image)
    accepting = {**INPUTS, "vars": {**INPUTS["vars"], "transformers_accepted_digest": "sha256:" + "cd" * 32}}
    assert image.planned_outputs(INPUTS, INPUTS, old)["image"] == RESULTS["image"]
    assert image.planned_outputs(accepting, INPUTS, old)["image"] == UNKNOWN
