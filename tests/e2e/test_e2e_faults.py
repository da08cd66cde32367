"""Faults on the road: those of tests/faults that `make test` has; and what has no message, for its end is sudden: kill -9, ^C, destroy."""

import os
import signal
import time

import pytest

from tests.support import fault_table, inject
from tests.support.e2e import UP, Road, processes

GLM_1 = "glm-fleet:nodes.machines.glm-1.vars"
FAULTS = [row for row in fault_table.load() if row.usual]


@pytest.mark.parametrize("row", FAULTS, ids=[row.fault.replace(" ", "-") for row in FAULTS])
def test_a_fault_is_reported_and_the_next_up_converges(road: Road, first_up: str, row: fault_table.Fault) -> None:
    fault = inject.Injection(road, row)
    fault.prepare()
    try:
        fault.inject()
        fault.run()
        fault.judge()
    finally:
        fault.mend()
        fault.converge()
    fault.record()


def interrupted(road: Road, victim: str, sign: int) -> str:
    """Start an `up` that restarts a replica, send a signal to the victim once Ansible works, return what was printed."""
    run = road.start(*road.up_command())
    assert run.stdout is not None
    seen = []
    for line in run.stdout:
        seen.append(line)
        if "vllm: " in line or "vllm : " in line:
            break
    if victim == "cli":
        os.kill(run.pid, sign)
    else:
        plugins = [
            int(line.split()[0]) for line in processes() if "-m fleet.provider" in line and str(road.home) in line
        ]
        assert plugins, "the plugin runs"
        for plugin in plugins:
            os.kill(plugin, sign)
    rest, _ = run.communicate(timeout=UP)
    return "".join(seen) + rest


def gone(road: Road, seconds: float = 20) -> list[str]:
    """The processes of this road that are still there after at most `seconds`: Ansible, ssh, plugins, the policy pack."""
    deadline = time.monotonic() + seconds
    while (left := [line for line in processes() if str(road.home) in line]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.exhaustive  # that nothing is left of such a run is in tests/provider/test_end.py, too
@pytest.mark.parametrize(
    ("victim", "sign"), [("cli", signal.SIGKILL), ("plugin", signal.SIGKILL), ("cli", signal.SIGINT)]
)
def test_an_interrupted_up_leaves_no_orphan_and_converges(road: Road, first_up: str, victim: str, sign: int) -> None:
    road.set(f'{GLM_1}.vllm_flags["max-model-len"]', road.another_length())
    interrupted(road, victim, sign)
    assert gone(road) == []
    recovered = road.run("bootstrap/recover.sh", "lab", timeout=UP)
    assert recovered.returncode == 0, recovered.stdout
    inject.converges(road)
