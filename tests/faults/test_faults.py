"""No fault loses anything: a run reports each row of table/*.yml in one message, the other node finishes, and the next `up` converges.

`make test` injects the `usual` ones into the stack of tests/e2e, in test_e2e_faults.py there. `-k gateway` are those of the endpoint.
"""

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import Road

pytestmark = pytest.mark.exhaustive

FAULTS = [row for row in fault_table.load() if not row.usual]
IDS = [f"{'gateway-' if row.client else ''}{row.fault}".replace(" ", "-") for row in FAULTS]


@pytest.mark.parametrize("row", FAULTS, ids=IDS)
def test_a_run_reports_a_fault_and_the_next_up_converges(converged: Road, row: fault_table.Fault) -> None:
    inject.cause(converged, row)
