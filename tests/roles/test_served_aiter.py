"""Claims about the role vllm where AITER compiles, loads and locks (a stand-in: lab/images/serving/aiter), on Ubuntu 24.04.

The server is the real vLLM, which calls the stand-in through its plugin entry points. Each claim ends with the replica as `served` made it.
Its name sorts this file after test_host.py, which restarts the Docker daemon more often than systemd starts a replica in half an hour.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import playbook
from tests.support.role_node import KEY, SERVED, UNIT, Place, Runs, active, container, paths

pytestmark = pytest.mark.exhaustive
BUILT = "module_moe_ck2stages"  # the module that no package contains
# As in the recipe that kept HOME on a file system in memory, which Docker mounts noexec.
IN_MEMORY = {**SERVED["vllm_environment"], "HOME": "/run/vllm", "AITER_ROOT_DIR": "/run/vllm/.aiter"}
SAMPLED = {"temperature": 0.8, "top_p": 0.6, "top_k": 2}


def status(place: Place, served: Runs, **sampling: Any) -> str:
    """Ask the replica for a few words; return the status of its answer, 000 without one."""
    (replica,) = served.second.results["fleet_serving"]["replicas"]
    own = f"--unix-socket {replica['socket']} http://replica" if "socket" in replica else ""
    url = own or f"http://127.0.0.1:{replica['port']}"
    messages = [{"role": "user", "content": "hello"}]
    question = {"model": SERVED["vllm_served_model_name"], "messages": messages, "max_tokens": 4, **sampling}
    headers = f"-H 'Authorization: Bearer {KEY}' -H 'Content-Type: application/json'"
    command = f"curl -s -m 60 -o /dev/null -w %{{http_code}} {headers} -d @- {url}/v1/chat/completions || true"
    return place.sh(command, stdin=json.dumps(question)).strip()[:3]


def cache(place: Place) -> str:
    """Return the replica's cache of compiled code, on the host."""
    return next(mount["Source"] for mount in container(place)["Mounts"] if mount["Destination"] == "/var/cache/vllm")


def test_the_replica_does_not_build_the_image_s_modules_again(served: Runs, ready: Place) -> None:
    built = ready.sh(f"find {cache(ready)} -name 'module_*.so' -type f -printf '%f\\n'").split()
    assert built == [f"{BUILT}.so"]


def test_the_sampler_is_compiled_on_disk_and_loaded(served: Runs, ready: Place) -> None:
    assert status(ready, served, temperature=0) == "200"
    assert status(ready, served, **SAMPLED) == "200"
    (library,) = ready.sh(f"find {cache(ready)} -path '*top_k_top_p*' -name lib.so").split()
    assert library


def test_a_server_waits_without_end_for_a_lock_of_another_host_name(served: Runs, ready: Place) -> None:
    """The role must remove such locks before a start: the image alone does not recover."""
    image = container(ready)["Image"]
    load = f"from aiter.jit import core; core.load('{BUILT}')"
    command = (
        "folder=$(mktemp -d) && mkdir $folder/build && printf '7\\nelsewhere\\n' > "
        f"$folder/build/lock_{BUILT} && chown -R 10001 $folder && timeout --signal=KILL 6 docker run --rm --name=aiter-waits --network=none "
        f'--user=10001 -v $folder:/jit -e AITER_JIT_DIR=/jit --entrypoint=python3 {image} -c "{load}" 2>&1; '
        "echo ended $?; docker rm -f aiter-waits >/dev/null 2>&1; rm -r $folder"
    )
    output = ready.sh(command)
    assert f"waiting for baton release at /jit/build/lock_{BUILT}" in output and "ended 137" in output


@pytest.mark.exhaustive
def test_with_home_in_memory_the_first_request_that_samples_kills_the_server(
    served: Runs, ready: Place, until: Callable[..., None]
) -> None:
    in_memory = ready.run("serving", **{**SERVED, **paths(served), "vllm_environment": IN_MEMORY})
    assert in_memory.rc == 0, in_memory.message
    before = container(ready)["Id"]
    assert status(ready, served, temperature=0) == "200"  # so a probe that does not sample sees nothing
    assert status(ready, served, **SAMPLED) != "200"
    until(lambda: before not in ready.sh("docker ps -q --no-trunc"))
    assert "failed to map segment from shared object" in ready.sh(f"journalctl -u {UNIT} -o cat --since -5min")
    repair = ready.run("serving", **SERVED, **paths(served))
    assert repair.rc == 0, repair.message
    assert status(ready, served, **SAMPLED) == "200"


@pytest.mark.exhaustive
def test_after_a_killed_start_the_next_one_serves(served: Runs, ready: Place, until: Callable[..., None]) -> None:
    folder = cache(ready)
    lock = f"{folder}/aiter/build/lock_{BUILT}"
    ready.sh(f"systemctl stop {UNIT} && rm {folder}/aiter/{BUILT}.so")
    slow = {**SERVED["vllm_environment"], "LAB_HIPCC_SECONDS": "60"}
    variables = {**ready.vars, **SERVED, **paths(served), "vllm_environment": slow}
    starting = playbook.RunningPlaybook(ready.node, "serving", variables, {"VLLM_API_KEY": KEY})
    until(lambda: ready.sh(f"test -s {lock} && echo there || true") != "", 120)
    host = container(ready)["Config"]["Hostname"]
    left = ready.sh(f"docker kill --signal=KILL glm-0 >/dev/null && cat {lock}").split()
    starting.end()
    assert left[1:] == [host]
    following = ready.run("serving", **SERVED, **paths(served))
    assert following.rc == 0 and active(ready), following.message
    assert status(ready, served, **SAMPLED) == "200"
    assert ready.sh(f"find {folder} -name 'lock*'").split() == []
