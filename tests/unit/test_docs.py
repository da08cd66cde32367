"""The pages of docs/ that a generator writes agree with their data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.acceptance import page as acceptance
from fleet.stack.rules import page as rules
from policies import docs as policies
from tests.changes import page as changes
from tests.e2e import page as drift
from tests.faults import page as faults
from tests.matrix import page as systems
from tests.vendors import page as vendors

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("systems.md", systems.page),
        ("vendors.md", vendors.page),
        ("drift.md", drift.page),
        ("changes.md", changes.page),
        ("faults.md", faults.page),
        ("policies.md", policies.page),
        ("rules.md", rules.page),
        ("acceptance.md", acceptance.page),
    ],
)
def test_a_page_is_current(name: str, render: Callable[[], str]) -> None:
    assert (DOCS / name).read_text() == render(), "`make docs` writes it"
