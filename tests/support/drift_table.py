"""The table drift.yml: what is changed by hand, wave by wave. Called by test_e2e_drift.py and by page.py."""

import pathlib
from typing import Any

import yaml


def waves() -> list[list[dict[str, Any]]]:
    """Each change as kind, node, do, told (a list, also where the file has one), and reboot where the node reboots after it."""
    read = yaml.safe_load((pathlib.Path(__file__).parents[1] / "e2e" / "drift.yml").read_text())
    return [[{**change, "told": _listed(change["told"])} for change in wave] for wave in read]


def _listed(told: str | list[str]) -> list[str]:
    return [told] if isinstance(told, str) else told
