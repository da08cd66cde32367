"""The faults of tests/faults that `make test` has, and sudden ends without a message: kill -9, ^C."""

import os
import signal
import time

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import UP, Road, processes
from tests.support.environment import expect_success

GLM_1 = "glm-fleet:nodes.machines.glm-1.vars"
FAULTS = [row for row in fault_table.load() if row.usual]


@pytest.mark.parametrize("row", FAULTS, ids=[row.fault.replace(" ", "-") for row in FAULTS])
def test_a_run_reports_a_fault_and_the_next_up_converges(road: Road, first_up: str, row: fault_table.Fault) -> None:
    inject.cause(road, row)


def interrupt(road: Road, victim: str, sign: int) -> None:
    """Start an `up` that restarts a replica, and send a signal to the victim once Ansible works."""
    run = road.start(*road.up_command())
    assert run.stdout is not None
    for line in run.stdout:
        if "vllm: " in line or "vllm : " in line:
            break
    lines = [line for line in processes() if "-m fleet.provider" in line and str(road.home) in line]
    victims = [run.pid] if victim == "cli" else [int(line.split()[0]) for line in lines]
    assert victims, "the plugin runs"
    for pid in victims:
        os.kill(pid, sign)
    run.communicate(timeout=UP)


def orphans(road: Road, seconds: float = 20) -> list[str]:
    """Return the processes of this stack that still run after at most `seconds`: Ansible, ssh, plugins, the policy pack."""
    deadline = time.monotonic() + seconds
    while (left := [line for line in processes() if str(road.home) in line]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.exhaustive  # tests/provider/test_end.py also shows that such a run leaves nothing
@pytest.mark.parametrize(
    ("victim", "sign"), [("cli", signal.SIGKILL), ("plugin", signal.SIGKILL), ("cli", signal.SIGINT)]
)
def test_an_interrupted_up_leaves_no_orphan_and_converges(road: Road, first_up: str, victim: str, sign: int) -> None:
    road.set(f'{GLM_1}.vllm_flags["max-model-len"]', road.another_length())
    interrupt(road, victim, sign)
    assert orphans(road) == []
    expect_success(road.run("bootstrap/recover.sh", "lab", timeout=UP))
    inject.converges(road)
