"""What the preflight says of each vendor's machine, word for word; on nodes: tests/vendors."""

from pathlib import Path

import pytest

from fleet.cli import preflight as verb
from lab.images import vendors
from tests.support import vendor_table

GOLDEN = Path(__file__).parents[1] / "vendors" / "golden"


@pytest.mark.parametrize("name", vendor_table.load())
def test_the_preflight_of_a_vendors_machine_reads_as_it_should(name: str) -> None:
    report = verb.Report(name, vendor_table.load()[name].results())
    text = "\n\n".join([verb.as_table([report], everything=True), *verb.problems([report])])
    assert text + "\n" == (GOLDEN / f"{name}.txt").read_text()


def test_every_vendors_script_has_a_row_and_every_node_a_script() -> None:
    rows, scripts = {one.name for one in vendor_table.load().values() if one.checks}, set(vendors.NAMES)
    assert scripts - rows == set(), "add a row with `checks` to tests/vendors/machines.yml"
    assert rows - scripts == set(), "write lab/images/vendors/NAME.sh, which makes a lab node such a machine"
