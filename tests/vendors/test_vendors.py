"""Lab nodes that look like vendors' machines: the preflight's results there, and the host's playbook.

A reboot, a Docker daemon and a driver each: minutes, so `make test-all` alone has them.
"""

import dataclasses
import fnmatch
from collections.abc import Callable

import pytest

from fleet import preflight
from fleet.stack import mirrors
from tests.support import playbook, preflight_machines, vendor_table
from tests.support.matrix_node import MatrixNode
from tests.support.role_node import COMMON

pytestmark = pytest.mark.exhaustive
NODES = [machine for machine in vendor_table.load().values() if machine.checks]


def requirements_of(node: MatrixNode) -> preflight.Requirements:
    """Return the stack prod's requirements, with the lab's archive and without kernels: the node has this machine's, which no list has."""
    ask = preflight_machines.prod_requirements()
    repositories = (mirrors.filled_url(COMMON["rocm_repository_url"], {}),)
    return dataclasses.replace(
        ask, target=node.target, kernels={}, driver_release="30.30.4", repositories=repositories, addresses=(), space=()
    )


def packages(node: MatrixNode, pattern: str) -> list[str]:
    lines = node.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'").splitlines()
    return fnmatch.filter([line.split()[1] for line in lines if line.startswith("ii")], pattern)


@pytest.mark.parametrize("machine", NODES, ids=lambda machine: machine.name)
def test_a_run_adopts_a_vendors_machine(
    machine: vendor_table.Machine, make_node: Callable[[vendor_table.Machine], MatrixNode]
) -> None:
    node = make_node(machine)
    ask = requirements_of(node)
    results = preflight.check(preflight.observe(ask), ask)
    results_by_check = {result.check: f"{result.level} {result.seen}" for result in results}
    assert [
        f"{check}: {results_by_check.get(check)}"
        for check, like in machine.checks.items()
        if not fnmatch.fnmatchcase(results_by_check.get(check, ""), like)
    ] == []
    if machine.run is None:
        return
    before = {pattern: packages(node, pattern) for pattern in machine.run.stays}
    variables = {**node.vars, **COMMON, **machine.vars}
    boot = node.boot()
    run = playbook.run(node.target, "host", variables)
    assert run.rc == 0, run.message
    assert (node.boot() != boot) == bool(machine.run.reboots)
    assert run.results["fleet_host"]["driver"] == machine.run.driver
    assert run.results["fleet_host"]["gpus"] == COMMON["rocm_gpus"]
    for pattern, names in before.items():
        assert packages(node, pattern) and set(names) <= set(packages(node, pattern)), pattern
    assert [pattern for pattern in machine.run.absent if packages(node, pattern)] == []
    for command in machine.run.holds:
        node.sh(command)
    again = playbook.run(node.target, "host", variables)
    assert (again.rc, again.changed) == (0, []), again.message
