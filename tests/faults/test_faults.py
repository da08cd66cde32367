"""No fault loses anything: each row of table/*.yml is reported in one message, spares the other node, and the next `up` converges.

Those that `make test` has (`usual`) are done to the road of tests/e2e, by test_e2e_faults.py there.
"""

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import Road

pytestmark = pytest.mark.exhaustive

FAULTS = [row for row in fault_table.load() if not row.usual]


@pytest.mark.parametrize("row", FAULTS, ids=[row.fault.replace(" ", "-") for row in FAULTS])
def test_a_fault_is_reported_and_the_next_up_converges(converged: Road, row: fault_table.Fault) -> None:
    fault = inject.Injection(converged, row)
    fault.prepare()
    try:
        fault.inject()
        fault.run()
        fault.judge()
    finally:
        fault.mend()
        fault.converge()
    fault.record()
