"""A preview keeps each changed file once for all nodes where it changes alike, and renders no more than it may."""

import pytest

from fleet.provider import file_differences
from fleet.provider.file_differences import FileDifferences
from fleet.provider.properties import UNKNOWN, Props

ROLES = {"vllm": ""}
CONFIG = "/etc/fleet/vllm/config.yaml"


def inputs(**flags: int) -> Props:
    return {
        "roles": ROLES,
        "vars": {
            "vllm_flags": flags,
            "vllm_image": "image@sha256:ab",
            "vllm_model_dir": "/srv/glm",
            "vllm_replicas": [],
        },
    }


def test_nodes_that_change_alike_share_one_entry() -> None:
    differences = FileDifferences()
    for node in ("prod-10", "prod-2"):
        differences.add(node, inputs(seed=2), inputs(seed=1))
    (file,) = differences.records()
    assert (file.path, file.lines, file.nodes) == (CONFIG, ("-seed: 1", "+seed: 2"), ("prod-2", "prod-10"))


def test_a_file_with_a_value_that_another_resource_makes_shows_its_place() -> None:
    """As where a new weights_revision gives the model another folder: Weights makes it during the run."""
    differences, new = FileDifferences(), inputs(seed=2)
    new["vars"]["vllm_model_dir"] = UNKNOWN
    differences.add("prod-1", new, inputs(seed=2))
    files = {file.path: file for file in differences.records()}
    assert files[CONFIG].lines == (
        "-chat-template: /srv/glm/chat_template.jinja",
        "+chat-template: (known later)/chat_template.jinja",
        "-model: /srv/glm",
        "+model: (known later)",
    )
    assert not files[CONFIG].whole


def test_what_is_new_or_unchanged_has_no_entry() -> None:
    differences = FileDifferences()
    differences.add("prod-1", inputs(seed=2), {})
    differences.add("prod-2", inputs(seed=2), inputs(seed=2))
    assert differences.records() == ()


def test_nodes_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_differences, "MOST", 2)
    differences = FileDifferences()
    for number in range(5):
        differences.add(f"prod-{number}", inputs(seed=number + 1), inputs(seed=0))
    assert (len(differences.records()), differences.left_out) == (2, 3)
