"""What a run of Image is given of the state, so that a registry cannot give another image for the same recipe: fleet/provider/image.py."""

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
MADE = {
    "image": "registry.example/glm@sha256:" + "ab" * 32,
    "commit": "a" * 40,
    "version": "5.19.0.dev0",
    "recipe": "12" * 32,
}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The variables of each run."""
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    return []


def image(given: list[dict[str, Any]]) -> Image:
    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        given.append({**job.variables, **getattr(job, "data", {})})
        return converge.Outcome({"fleet_image": MADE}, managed_set.Declared({}), 0, 1, {})

    return Image("Image", OUTPUTS, Slots(), run=run, read=lambda *_: [{}])


def request() -> Request:
    urn = "urn:pulumi:prod::glm-fleet::fleet:index:Image::glm-1"
    return Request(urn=urn, report=lambda *_: None, cancelled=threading.Event())


def test_the_next_run_knows_which_image_the_state_has_of_which_recipe(given: list[dict[str, Any]]) -> None:
    first = image(given).apply(request(), INPUTS, None)
    image(given).apply(request(), INPUTS, first)
    assert "image_of_state" not in given[0]
    assert given[1]["image_of_state"] == {"image": MADE["image"], "recipe": MADE["recipe"]}
    assert "image_of_state" not in first["vars"]  # it is no setting: it makes no difference of the resource


def test_a_state_of_before_there_was_a_recipe_compares_nothing_and_does_not_differ(given: list[dict[str, Any]]) -> None:
    old = {name: value for name, value in image(given).apply(request(), INPUTS, None).items() if name != "recipe"}
    assert "recipe" not in image(given).planned_outputs(INPUTS, INPUTS, old)
    after = image(given).apply(request(), INPUTS, old)
    assert "image_of_state" not in given[1] and after["recipe"] == MADE["recipe"]


def test_another_digest_that_is_accepted_is_another_image_in_the_preview(given: list[dict[str, Any]]) -> None:
    old = image(given).apply(request(), INPUTS, None)
    accepting = {**INPUTS, "vars": {**INPUTS["vars"], "transformers_accepted_digest": "sha256:" + "cd" * 32}}
    assert image(given).planned_outputs(INPUTS, INPUTS, old)["image"] == MADE["image"]
    assert image(given).planned_outputs(accepting, INPUTS, old)["image"] == UNKNOWN
