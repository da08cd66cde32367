"""Predicted = happened, a row for each level of the change matrix, in the stack of this folder; tests/changes makes all rows.

One run changes two machines, which do not affect each other. `make test` has a flag (test_e2e.py) and a key (test_e2e_secrets.py).
"""

import pytest

from tests.support import change_table
from tests.support.e2e import Road
from tests.support.testbed import Bed

TAKEN_OVER = "docker_daemon_options: one that is taken over is added"
ENGINE, REPLICA = ("docker.service and every replica",), ("glm-0",)
# For each machine the row, and its prediction: the level, and what it hits.
REBOOT = {
    "glm-1": ("host_kernel_arguments: one is added", ("reboot", ())),
    "glm-2": (TAKEN_OVER, ("restart", ENGINE)),  # Debian's Docker daemon is too old to reload
}
RELOAD = {"glm-1": (TAKEN_OVER, ("reload", ("docker.service",))), "glm-2": ("host_limits", ("nothing restarts", ()))}
RESTART = {"glm-2": ("vllm_pids_limit", ("restart", REPLICA))}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(REBOOT, id="reboot, and restart of the Docker daemon"),
        pytest.param(RELOAD, id="reload, and nothing"),
        pytest.param(RESTART, id="restart of a replica"),
    ],
)
def test_what_the_preview_predicts_happens_and_nothing_else(
    road: Road, first_up: str, run: dict[str, tuple[str, tuple[str, tuple[str, ...]]]]
) -> None:
    outcomes = Bed(road).make({node: [change_table.named(name)] for node, (name, _) in run.items()})
    for node, (_, prediction) in run.items():
        assert outcomes[node].mismatches == [], outcomes[node]
        assert prediction in [(line.level, line.whom) for line in outcomes[node].predictions], outcomes[node]
