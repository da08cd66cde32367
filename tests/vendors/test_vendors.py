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
NODES = [one for one in vendor_table.load().values() if one.checks]


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


@pytest.mark.parametrize("one", NODES, ids=lambda one: one.name)
def test_a_vendors_machine_is_known_and_taken(
    one: vendor_table.Machine, made: Callable[[vendor_table.Machine], MatrixNode]
) -> None:
    bed = made(one)
    ask = wanted(bed)
    results = preflight.check(preflight.observe(ask), ask)
    told = {one.check: f"{one.level} {one.seen}" for one in results}
    assert [
        f"{check}: {told.get(check)}"
        for check, like in one.checks.items()
        if not fnmatch.fnmatchcase(told.get(check, ""), like)
    ] == []
    if one.run is None:
        return
    before = {pattern: packages(bed, pattern) for pattern in one.run.stays}
    given = {**bed.vars, **COMMON, **one.vars}
    boot = bed.boot()
    ran = playbook.run(bed.target, "host", given)
    assert ran.rc == 0, ran.message
    assert (bed.boot() != boot) == bool(one.run.reboots)
    assert ran.results["fleet_host"]["driver"] == one.run.driver
    assert ran.results["fleet_host"]["gpus"] == COMMON["rocm_gpus"]
    for pattern, names in before.items():
        assert packages(bed, pattern) and set(names) <= set(packages(bed, pattern)), pattern
    assert [pattern for pattern in one.run.absent if packages(bed, pattern)] == []
    for command in one.run.holds:
        bed.sh(command)
    again = playbook.run(bed.target, "host", given)
    assert (again.rc, again.changed) == (0, []), again.message
