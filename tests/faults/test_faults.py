"""No fault loses anything: a run reports each row of table/*.yml in one message, the other node finishes, and the next `up` converges.

`make test` injects the `usual` ones into the stack of tests/e2e, in test_e2e_faults.py there. `-k gateway` are those of the endpoint.
"""

from typing import Any

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import Road

pytestmark = pytest.mark.exhaustive


def parameters(row: fault_table.Fault) -> Any:
    name = f"{'gateway-' if row.client else ''}{row.fault}".replace(" ", "-")
    return pytest.param(row, id=name, marks=pytest.mark.recorded("faults", {row.fault: row.model_dump()}))


@pytest.mark.parametrize("row", [parameters(row) for row in fault_table.load() if not row.usual])
def test_a_run_reports_a_fault_and_the_next_up_converges(converged: Road, row: fault_table.Fault) -> None:
    inject.cause(converged, row)
