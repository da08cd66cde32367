"""Lab nodes that look like vendors' machines: what the preflight sees there, and what the host's playbook makes of them.

A reboot, an engine and a driver each: minutes, so `make test-all` alone has them.
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


def wanted(bed: MatrixNode) -> preflight.Requirements:
    """Return what the stack prod wants of the node, with the lab's archive; the kernel is this machine's, and no list has it."""
    ask = preflight_machines.wanted()
    repositories = (mirrors.filled_url(COMMON["rocm_repository_url"], {}),)
    return dataclasses.replace(
        ask, target=bed.target, kernels={}, driver_release="30.30.4", repositories=repositories, addresses=(), space=()
    )


def packages(bed: MatrixNode, pattern: str) -> list[str]:
    listed = bed.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'").splitlines()
    return [
        line.split()[1] for line in listed if line.startswith("ii") and fnmatch.fnmatchcase(line.split()[1], pattern)
    ]


@pytest.mark.parametrize("machine", NODES, ids=lambda machine: machine.name)
def test_a_vendors_machine_is_known_and_taken(
    machine: vendor_table.Machine, make_node: Callable[[vendor_table.Machine], MatrixNode]
) -> None:
    bed = make_node(machine)
    ask = wanted(bed)
    results = preflight.check(preflight.observe(ask), ask)
    seen = {machine.check: f"{machine.level} {machine.seen}" for machine in results}
    assert [
        f"{check}: {seen.get(check)}"
        for check, like in machine.checks.items()
        if not fnmatch.fnmatchcase(seen.get(check, ""), like)
    ] == []
    if machine.run is None:
        return
    before = {pattern: packages(bed, pattern) for pattern in machine.run.stays}
    variables = {**bed.vars, **COMMON, **machine.vars}
    boot = bed.boot()
    run = playbook.run(bed.target, "host", variables)
    assert run.rc == 0, run.message
    assert (bed.boot() != boot) == bool(machine.run.reboots)
    assert run.results["fleet_host"]["driver"] == machine.run.driver
    assert run.results["fleet_host"]["gpus"] == COMMON["rocm_gpus"]
    for pattern, names in before.items():
        assert packages(bed, pattern) and set(names) <= set(packages(bed, pattern)), pattern
    assert [pattern for pattern in machine.run.absent if packages(bed, pattern)] == []
    for command in machine.run.holds:
        bed.sh(command)
    again = playbook.run(bed.target, "host", variables)
    assert (again.rc, again.changed) == (0, []), again.message
