"""Every scenario on every system, as scenarios/ says it; what a scenario needs before it is done first, on the same node.

`make test` goes through a part of them (`make_test` of each), `make test-all` through all: docs/systems.md shows both.
"""

from collections.abc import Callable

import pytest

from tests.support import neighbour, playbook, scenario_table
from tests.support.matrix_node import MatrixNode
from tests.support.scenario_table import Scenario

CELLS = [
    pytest.param(system, name, marks=() if usual else pytest.mark.exhaustive, id=f"{system}-{name}")
    for system, name, usual in scenario_table.cells("test_matrix.py")
]


@pytest.mark.parametrize(("system", "name"), CELLS)
def test_a_scenario_ends_as_it_should(beds: Callable[[str], MatrixNode], system: str, name: str) -> None:
    bed = beds(system)
    for scenario in scenario_table.load()[name].chain():
        if scenario.name not in bed.scenarios:
            go_through(bed, scenario)
            bed.scenarios.append(scenario.name)
    assert bed.sh("ls /run/lab-bytecode")  # with the Python of each system (lab/images/node/lab_bytecode.py)


def go_through(bed: MatrixNode, scenario: Scenario) -> None:
    """Do what the scenario says, and look."""
    expected = scenario.expect
    assert expected is not None
    boot, since = bed.boot(), {unit: bed.since(unit) for unit in expected.restarted}
    assert all(since.values()), since
    if scenario.reboot:
        bed.reboot()
    bed.variables |= scenario.vars
    runs = go(bed, scenario, expected.changed)
    assert (bed.boot() != boot) is bool(expected.reboots)
    rebooted = [task for run in runs for task in run.changed if task == "Reboot the host"]
    assert len(rebooted) + scenario.reboot == expected.reboots or all(run.check for run in scenario.runs)
    present = bed.sh(f"ls -d {' '.join(expected.absent)} 2>/dev/null || true") if expected.absent else ""
    assert present == ""
    for unit in expected.active:
        assert bed.sh(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == ["active", "enabled"]
    for command in expected.answers:
        bed.sh(command)
    assert set(expected.arguments) <= set(bed.sh("cat /proc/cmdline").split())
    assert [unit for unit, before in since.items() if bed.since(unit) == before] == []
    if expected.reached:
        expected_addresses = [
            f"{where}:{port}" for where in (bed.target.address, neighbour.BRIDGE) for port in expected.reached
        ]
        assert neighbour.reaches(bed.lab, f"{bed.lab}-{bed.target.name}", bed.target.address) == expected_addresses
    if expected.gpus is not None:
        assert bed.results["fleet_host"]["gpus"] == expected.gpus
    if expected.driver is not None:
        assert bed.results["fleet_host"]["driver"] == expected.driver
    if scenario.again:
        go(bed, scenario, "none")


def go(bed: MatrixNode, scenario: Scenario, changed: str | list[str]) -> list[playbook.Run]:
    """Do the runs: each goes well, and changes what it should."""
    runs = []
    for expected_run in scenario.runs:
        run = bed.run(expected_run.book, expected_run.check)
        assert (run.rc, run.message) == (0, ""), run.raw[-3000:]
        match changed:
            case "some":
                assert run.changed != []
            case "none":
                assert run.changed == []
            case names:
                assert run.changed == names
        runs.append(run)
    return runs
