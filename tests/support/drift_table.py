"""The table drift.yml: the changes by hand, wave by wave. Called by test_e2e_drift.py and by page.py."""

import pathlib
from typing import Any

import yaml


def waves() -> list[list[dict[str, Any]]]:
    """Return each change as kind, node, do, report (always a list), and reboot where the node reboots after it."""
    table = yaml.safe_load((pathlib.Path(__file__).parents[1] / "e2e" / "drift.yml").read_text())
    return [[{**change, "report": _list(change["report"])} for change in wave] for wave in table]


def _list(report: str | list[str]) -> list[str]:
    return [report] if isinstance(report, str) else report
