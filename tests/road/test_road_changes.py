"""Predicted = happened, a row for each level of the change matrix, on the road that stands anyway; all rows are made in tests/changes.

What is in one run is on two machines, which do not hear of each other.
"""

import pytest

from tests.changes import rows
from tests.changes.bed import Bed
from tests.road.road import Road

pytestmark = [pytest.mark.docker, pytest.mark.road, pytest.mark.timeout(1800)]

TAKEN_OVER = "docker_daemon_options: one that is taken over is added"
RUNS = {
    # glm-2 has Debian's engine, which is too old to reload
    "reboot, and restart of the engine": {"glm-1": "host_kernel_arguments: one is added", "glm-2": TAKEN_OVER},
    "reload, and restart of a replica": {"glm-1": TAKEN_OVER, "glm-2": "vllm_pids_limit"},
    "none": {"glm-1": "host_limits"},
}
LEVELS = [[("reboot", ()), ("restart", ("docker.service and every replica",))], [("reload", ("docker.service",)), ("restart", ("glm-0",))], [("nothing restarts", ())]]  # fmt: skip


@pytest.mark.parametrize(("run", "levels"), zip(RUNS, LEVELS, strict=True), ids=RUNS)
def test_what_is_foretold_happens_and_nothing_else(
    road: Road, first_up: str, run: str, levels: list[tuple[str, tuple[str, ...]]]
) -> None:
    made = Bed(road).make({node: [rows.named(name)] for node, name in RUNS[run].items()})
    for outcome, level in zip(made.values(), levels, strict=True):
        assert outcome.wrong == [], outcome
        assert level in [(one.level, one.whom) for one in outcome.foretold], outcome
