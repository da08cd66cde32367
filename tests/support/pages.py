"""Writes the pages of docs/ that are made from data. Usage, as `make docs` does: python -m tests.support.pages

Owns the list of these pages. Called by tests/unit/test_docs.py, too.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet import errors
from fleet.acceptance import page as acceptance
from fleet.stack.rules import page as rules
from policies import docs as policies
from tests.changes import page as changes
from tests.e2e import page as drift
from tests.faults import page as faults
from tests.matrix import page as systems
from tests.vendors import page as vendors

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Page:
    """One page: what returns its text, the data that it is made of, the module that owns the form of the data."""

    make: Callable[[], str]
    data: str
    form: str


PAGES: Mapping[str, Page] = {
    "acceptance.md": Page(acceptance.page, "fleet/acceptance/mi300x.yml", "fleet/acceptance/catalogue.py"),
    "changes.md": Page(changes.page, "roles/*/meta/effects.yml or tests/changes/*.yml", "fleet/impact/role_effects.py"),
    "drift.md": Page(drift.page, "tests/e2e/drift.yml", "tests/support/drift_table.py"),
    "faults.md": Page(faults.page, "tests/faults/table/*.yml", "tests/support/fault_table.py"),
    "policies.md": Page(
        policies.page, "policies/data/*.yml or fleet/stack/rules/data/versions.yml", "policies/data.py"
    ),
    "rules.md": Page(rules.page, "fleet/stack/rules/data/*.yml", "fleet/stack/rules/page.py"),
    "systems.md": Page(systems.page, "tests/matrix/scenarios/*.yml", "tests/support/scenario_table.py"),
    "vendors.md": Page(vendors.page, "tests/vendors/machines.yml", "tests/support/vendor_table.py"),
}


def text(name: str) -> str:
    """Return a page. Raises FleetError for data that lacks something or has another form."""
    page = PAGES[name]
    try:
        return page.make()
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise errors.FleetError(
            doing=f"generate docs/{name} from {page.data}",
            seen=f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__,
            wanted=f"the form of {page.form}",
            next=f"add or correct it in {page.data}, then `make docs`",
        ) from error


if __name__ == "__main__":
    try:
        texts = {name: text(name) for name in PAGES}
    except errors.FleetError as error:
        sys.exit(str(error))
    for name, content in texts.items():
        (DOCS / name).write_text(content)
