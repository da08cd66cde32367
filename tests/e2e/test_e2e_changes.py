"""Predicted = happened, a row for each level of the change matrix, on the road that stands anyway; all rows are made in tests/changes.

What is in one run is on two machines, which do not hear of each other. That a changed flag restarts the replica, as foretold and alone,
is in test_e2e.py.
"""

import pytest

from tests.support import change_table
from tests.support.e2e import Road
from tests.support.testbed import Bed

TAKEN_OVER = "docker_daemon_options: one that is taken over is added"
ENGINE, REPLICA = ("docker.service and every replica",), ("glm-0",)
# Of each machine the row, and what must be foretold of it: the level, and what it hits.
REBOOT = {
    "glm-1": ("host_kernel_arguments: one is added", ("reboot", ())),
    "glm-2": (TAKEN_OVER, ("restart", ENGINE)),  # Debian's engine is too old to reload
}
RELOAD = {"glm-1": (TAKEN_OVER, ("reload", ("docker.service",))), "glm-2": ("host_limits", ("nothing restarts", ()))}
RESTART = {"glm-2": ("vllm_pids_limit", ("restart", REPLICA))}


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(REBOOT, id="reboot, and restart of the engine"),
        # what reloads an engine is in tests/roles/test_host.py, too
        pytest.param(RELOAD, id="reload, and nothing", marks=pytest.mark.exhaustive),
        pytest.param(RESTART, id="restart of a replica", marks=pytest.mark.exhaustive),
    ],
)
def test_what_is_foretold_happens_and_nothing_else(
    road: Road, first_up: str, run: dict[str, tuple[str, tuple[str, tuple[str, ...]]]]
) -> None:
    made = Bed(road).make({node: [change_table.named(name)] for node, (name, _) in run.items()})
    for node, (_, level) in run.items():
        assert made[node].wrong == [], made[node]
        assert level in [(one.level, one.whom) for one in made[node].foretold], made[node]
