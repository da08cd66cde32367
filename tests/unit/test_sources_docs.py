"""The stacks that docs/sources.md shows are right ones, and it names the versions that are locked."""

import re
from pathlib import Path

import pytest
import yaml

from fleet.stack import settings
from tests.support.source_table import SOURCES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text()
SHOWN = re.findall(r"(?m)^    glm-fleet:nodes:\n(?:(?:      .*)?\n)+", PAGE)


@pytest.mark.parametrize("text", SHOWN)
def test_a_stack_that_is_shown_is_a_right_one(text: str) -> None:
    told = yaml.safe_load(text)["glm-fleet:nodes"]
    assert settings.read({"nodes": told}, "docs/sources.md").present


def test_every_cloud_is_shown_and_every_source_in_the_table() -> None:
    stacks = [yaml.safe_load(text)["glm-fleet:nodes"] for text in SHOWN]
    shown = {pool["source"] for nodes in stacks for pool in (nodes if isinstance(nodes, list) else [nodes])}
    rows = {*re.findall(r"(?m)^\| `([a-z0-9_]+)` \|", PAGE)}
    for name, source in SOURCES.items():
        assert name in rows, f"add a row for source {name} to the table of docs/sources.md"
        assert name in shown or not source.sdk, f"show a stack with source {name} in docs/sources.md"


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.sdk])
def test_the_plugin_has_the_version_of_the_sdk(name: str) -> None:
    sdk, pins = SOURCES[name].sdk, ROOT / "requirements" / f"{name}.in"
    version = re.search(rf"(?m)^{sdk}==(\S+)$", pins.read_text() if pins.exists() else "")
    assert version, f"pin {sdk}==VERSION in requirements/{name}.in"
    line = f"{sdk.removeprefix('pulumi-')} v{version[1]}"
    assert line in PAGE, f"docs/sources.md installs the plugins: `pulumi plugin install resource {line}`"
