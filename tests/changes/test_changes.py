"""Predicted = happened: for every row of the matrix the preview predicts exactly what the node then shows.

Hours, so `make test-all` alone makes them all; every `make test` makes a few in tests/e2e.
"""

from typing import Any

import pytest

from tests.support import change_table
from tests.support.testbed import NODE, Bed

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]


def name(rows: tuple[change_table.Row, ...]) -> str:
    return rows[0].name if len(rows) == 1 else f"{rows[0].role}: {len(rows)} that restart nothing, from {rows[0].name}"


def parameters(rows: tuple[change_table.Row, ...]) -> Any:
    shown = pytest.mark.recorded("changes", {row.name: row.model_dump() for row in rows})
    return pytest.param(rows, id=name(rows), marks=shown)


def mismatches(bed: Bed, rows: tuple[change_table.Row, ...]) -> list[str]:
    """Make these changes at once, and return every false prediction; for several changes each prediction is false."""
    try:
        outcome = bed.make({NODE: rows})[NODE]
    except AssertionError as error:
        return [str(error), *getattr(error, "__notes__", ())]
    loud = [line for line in outcome.predictions if line.level != "nothing restarts" and len(rows) > 1]
    errors = [*outcome.mismatches, *(f"predicted of what restarts nothing: {line}" for line in loud)]
    return [*errors, *(f"predicted: {line}" for line in outcome.predictions)] if errors else []


@pytest.mark.parametrize("rows", [parameters(rows) for rows in change_table.runs()])
def test_what_the_preview_predicts_happens_and_nothing_else(bed: Bed, rows: tuple[change_table.Row, ...]) -> None:
    """After a mismatch of several changes at once, make them again one by one, to find the culprit."""
    errors = mismatches(bed, rows)
    print("\n".join(errors))  # pytest would cut them off
    if errors and len(rows) > 1:
        print("a prediction is false, so each of these changes is made alone")
        errors += [f"{row.name}: {text}" for row in rows for text in mismatches(bed, (row,))]
    assert errors == []
