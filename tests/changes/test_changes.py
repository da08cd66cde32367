"""Predicted = happened: of every row of the matrix, what the preview foretells is what the node then shows, no more and no less.

Hours, so `make test-all` alone makes them all; a few are made in tests/e2e by every `make test`.
"""

import pytest

from tests.support import change_table
from tests.support.testbed import NODE, Bed

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]


def name(some: tuple[change_table.Row, ...]) -> str:
    return some[0].name if len(some) == 1 else f"{some[0].role}: {len(some)} that restart nothing, from {some[0].name}"


def wrong(bed: Bed, some: tuple[change_table.Row, ...]) -> list[str]:
    """Make these changes at once, and return what was not as foretold; of several, nothing may have been foretold at all."""
    try:
        outcome = bed.make({NODE: some})[NODE]
    except AssertionError as error:
        return [str(error), *getattr(error, "__notes__", ())]
    loud = [one for one in outcome.foretold if one.level != "nothing restarts" and len(some) > 1]
    return [*outcome.wrong, *(f"foretold of what restarts nothing: {one}" for one in loud)]


@pytest.mark.parametrize("some", change_table.together(), ids=name)
def test_what_is_foretold_happens_and_nothing_else(bed: Bed, some: tuple[change_table.Row, ...]) -> None:
    """Where several changes were made at once and something is wrong, they are made again one by one, to tell which it is."""
    seen = wrong(bed, some)
    if seen and len(some) > 1:
        seen += [f"{row.name}: {text}" for row in some for text in wrong(bed, (row,))]
    assert seen == []
