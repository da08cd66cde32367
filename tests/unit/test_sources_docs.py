"""The stacks that docs/sources.md shows are right ones, and it names the versions that are locked."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from fleet.stack import settings
from tests.support.source_table import SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
SHOWN = re.findall(r"(?m)^    glm-fleet:nodes:\n(?:(?:      .*)?\n)+", PAGE)


@pytest.mark.parametrize("text", SHOWN)
def test_a_stack_that_is_shown_is_a_right_one(text: str) -> None:
    told = yaml.safe_load(text)["glm-fleet:nodes"]
    assert settings.read({"nodes": told}, "docs/sources.md").present


def test_every_cloud_is_shown_and_every_source_in_the_table() -> None:
    told = [yaml.safe_load(text)["glm-fleet:nodes"] for text in SHOWN]
    shown = {pool["source"] for nodes in told for pool in (nodes if isinstance(nodes, list) else [nodes])}
    assert shown >= {name for name, source in SOURCES.items() if source.package}
    assert {*re.findall(r"(?m)^\| `([a-z]+)` \|", PAGE)} >= {*SOURCES}


@pytest.mark.parametrize("package", ["digitalocean", "azure-native", "oci"])
def test_the_plugin_has_the_version_of_the_sdk(package: str) -> None:
    assert f"{package} v{metadata.version(f'pulumi-{package}')}" in PAGE
