"""stacks/Pulumi.lab-kubernetes.yaml says what the lab is: its form is right, and each value that the lab decides is the lab's."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.stack import cluster_names, role_vars, settings, validate
from lab import site
from lab.images import kubernetes as image
from lab.images import site as site_image
from lab.kubernetes import cluster

ROOT = Path(__file__).parents[2]
FILE = "stacks/Pulumi.lab-kubernetes.yaml"


def keys(name: str) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text())["config"]
    return {key.removeprefix("glm-fleet:"): value for key, value in config.items()}


@pytest.fixture
def stack() -> settings.Settings:
    """The stack as the program reads it."""
    return settings.read(keys("lab-kubernetes"), FILE)


def test_the_stack_has_neither_mistake_nor_warning(stack: settings.Settings) -> None:
    findings = validate.validate(stack, role_vars.load(ROOT / "roles"), FILE, datetime.date(2026, 11, 30))
    assert [list(map(str, findings.mistakes)), list(map(str, findings.warnings))] == [[], []]


def test_the_context_is_the_one_that_the_lab_writes(stack: settings.Settings) -> None:
    assert stack.kubernetes and stack.kubernetes.context == cluster.CONTEXT == cluster_names.LAB
    assert stack.kubernetes.lab


def test_image_and_render_group_are_those_of_the_lab(stack: settings.Settings) -> None:
    assert stack.kubernetes
    assert stack.kubernetes.image.partition("@")[0] == f"{site.REGISTRY}/{site_image.BASE}"
    assert stack.kubernetes.render_group == image.RENDER_GROUP


def test_the_labels_of_the_lab_s_nodes_are_those_that_the_pods_want(stack: settings.Settings) -> None:
    assert stack.kubernetes
    labels: Mapping[str, str] = cluster.LABELS
    assert all(labels.get(name) in values for name, values in stack.kubernetes.node_labels.items())


def test_the_weights_are_the_checkpoint_of_the_lab(stack: settings.Settings) -> None:
    assert stack.vars["weights_revision"] == site.revision(site.CHECKPOINT)
    assert stack.vars["weights_manifest"] == site.sums(site.CHECKPOINT)


def test_the_server_is_that_of_the_stack_of_machines(stack: settings.Settings) -> None:
    machines = keys("lab")["vars"]
    server = {name: value for name, value in stack.vars.items() if name.startswith("vllm_")}
    assert server == {name: machines[name] for name in server}
