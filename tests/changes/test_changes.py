"""Predicted = happened: of every row of the matrix, what the preview foretells is what the node then shows, no more and no less.

Hours, so `make test-all` alone makes them all; a few are made in tests/road by every `make test`.
"""

from collections.abc import Callable

import pytest

from tests.changes import rows
from tests.changes.bed import Bed
from tests.changes.conftest import NODE

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("row", rows.made(), ids=lambda row: row.name)
def test_what_is_foretold_happens_and_nothing_else(
    bed: Bed, row: rows.Row, record_property: Callable[..., None]
) -> None:
    outcome = bed.make({NODE: row})[NODE]
    record_property("foretold", str(outcome.foretold))
    assert outcome.wrong == [], outcome
