"""Every scenario of scenarios/ on every system, after the scenarios that it needs, on the same node.

`make test` runs a part of them (`make_test` of each), `make test-all` all: docs/systems.md shows both.
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
def test_a_scenario_ends_as_its_file_says(node_of: Callable[[str], MatrixNode], system: str, name: str) -> None:
    node = node_of(system)
    for scenario in scenario_table.load()[name].chain():
        if scenario.name not in node.scenarios:
            play(node, scenario)
            node.scenarios.append(scenario.name)
    assert node.sh("ls /run/lab-bytecode")  # with the Python of each system (lab/images/node/lab_bytecode.py)


def play(node: MatrixNode, scenario: Scenario) -> None:
    """Play the scenario, and check its end."""
    expected = scenario.expect
    assert expected is not None
    boot, since = node.boot(), {unit: node.since(unit) for unit in expected.restarted}
    assert all(since.values()), since
    if scenario.reboot:
        node.reboot()
    node.variables |= scenario.vars
    runs = run(node, scenario, expected.changed)
    assert (node.boot() != boot) is bool(expected.reboots)
    reboots = [task for outcome in runs for task in outcome.changed if task == "Reboot the host"]
    assert len(reboots) + scenario.reboot == expected.reboots or all(entry.check for entry in scenario.runs)
    assert not expected.absent or node.sh(f"ls -d {' '.join(expected.absent)} 2>/dev/null || true") == ""
    for unit in expected.active:
        assert node.sh(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == ["active", "enabled"]
    for command in expected.answers:
        node.sh(command)
    assert set(expected.arguments) <= set(node.sh("cat /proc/cmdline").split())
    assert [unit for unit, before in since.items() if node.since(unit) == before] == []
    if expected.reached:
        hosts = (node.target.address, neighbour.BRIDGE)
        addresses = neighbour.reaches(node.lab, f"{node.lab}-{node.target.name}", node.target.address)
        assert addresses == [f"{host}:{port}" for host in hosts for port in expected.reached]
    if expected.gpus is not None:
        assert node.results["fleet_host"]["gpus"] == expected.gpus
    if expected.driver is not None:
        assert node.results["fleet_host"]["driver"] == expected.driver
    if scenario.again:
        run(node, scenario, "none")


def run(node: MatrixNode, scenario: Scenario, changed: str | list[str]) -> list[playbook.Run]:
    """Make the scenario's runs: each must succeed, and change `changed`."""
    runs = []
    for entry in scenario.runs:
        outcome = node.run(entry.book, entry.check)
        assert (outcome.rc, outcome.message) == (0, ""), outcome.raw[-3000:]
        match changed:
            case "some":
                assert outcome.changed != []
            case "none":
                assert outcome.changed == []
            case names:
                assert outcome.changed == names
        runs.append(outcome)
    return runs
