"""Faults on the road: each ends in one message in the design's form, spares the other node, and the next `up` converges."""

import os
import re
import signal
import time

import pytest

from lab import site
from tests.road.road import UP, Road, processes

pytestmark = [pytest.mark.docker, pytest.mark.road, pytest.mark.timeout(1800)]

GLM_1, GLM_2 = "glm-fleet:nodes.machines.glm-1.vars", "glm-fleet:nodes.machines.glm-2.vars"


def converges(road: Road) -> None:
    done = road.up()
    assert done.returncode == 0, done.stdout
    clean = road.preview("--expect-no-changes")
    assert clean.returncode == 0, clean.stdout


def test_a_misspelled_variable_stops_the_preview_with_the_nearest_name(road: Road, first_up: str) -> None:
    road.set("glm-fleet:vars.vlm_shm_size", "1g")
    try:
        seen = road.preview()
    finally:
        road.remove("glm-fleet:vars.vlm_shm_size")
    assert seen.returncode != 0
    assert "vlm_shm_size" in seen.stdout and "vllm_shm_size" in seen.stdout
    assert "Traceback" not in seen.stdout


def test_an_untrained_checkpoint_that_answers_health_fails_the_deployment(road: Road, first_up: str) -> None:
    road.set(f"{GLM_2}.weights_revision", site.untrained_revision())
    failed = road.up()
    road.remove(f"{GLM_2}.weights_revision")
    assert failed.returncode != 0
    assert "glm-2: probes: " in failed.stdout and "the server answers, and sees wrongly" in failed.stdout
    assert "bottle-grounding: answered '" in failed.stdout
    assert "next:   open " in failed.stdout
    assert road.on("glm-2", "curl -s -o /dev/null -w %{http_code} http://127.0.0.1:8000/health") == "200"
    converges(road)


def test_a_paused_node_is_named_and_the_other_one_finishes(road: Road, first_up: str) -> None:
    length = road.another_length()
    road.set('glm-fleet:vars.vllm_flags["max-model-len"]', length)
    road.run("docker", "pause", f"{road.lab}-glm-2")
    try:
        failed = road.up()
    finally:
        road.run("docker", "unpause", f"{road.lab}-glm-2")
    assert failed.returncode != 0
    assert re.search(r"glm-2: .*(no answer|timed out|handshake)", failed.stdout), failed.stdout
    assert "next:" in failed.stdout
    assert f"max-model-len: {length}" in road.on("glm-1", "cat /etc/fleet/vllm/config.yaml")
    converges(road)


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


@pytest.mark.parametrize(
    ("victim", "sign"), [("cli", signal.SIGKILL), ("plugin", signal.SIGKILL), ("cli", signal.SIGINT)]
)
def test_an_interrupted_up_leaves_no_orphan_and_converges(road: Road, first_up: str, victim: str, sign: int) -> None:
    road.set(f'{GLM_1}.vllm_flags["max-model-len"]', road.another_length())
    interrupted(road, victim, sign)
    assert gone(road) == []
    recovered = road.run("bootstrap/recover.sh", "lab", timeout=UP)
    assert recovered.returncode == 0, recovered.stdout
    converges(road)
