"""No fault loses anything: each row of table/*.yml is told in one message, spares the other node, and the next `up` converges.

Those that `make test` has (`usual`) are done to the road of tests/e2e, by test_e2e_faults.py there.
"""

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import Road

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1800)]

FAULTS = [one for one in fault_table.load() if not one.usual]


@pytest.mark.parametrize("one", FAULTS, ids=[one.fault.replace(" ", "-") for one in FAULTS])
def test_a_fault_is_told_and_the_next_up_converges(converged: Road, one: fault_table.Fault) -> None:
    inject.undergo(converged, one)
