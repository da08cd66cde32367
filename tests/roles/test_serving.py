"""Claims about the role vllm (playbooks/serving.yml): a hardened container a replica, active only when healthy; on Ubuntu 24.04.

The server is the real vLLM; a start takes half a minute, so claims share that of `served` and end with it running.
"""

import dataclasses
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from fleet import address, probes, ssh
from tests.support import labs, neighbour
from tests.support.role_node import KEY, SERVED, SOCKET, UNIT, Place, Runs, active, container, paths


def status(place: Place, path: str, *more: str) -> str:
    options = f"-s -o /dev/null -w %{{http_code}} {' '.join(more)} --unix-socket {SOCKET}"
    return place.sh(f"curl {options} http://replica{path} || true")


def test_check_mode_reports_the_replicas_units(served: Runs) -> None:
    assert "Write the replicas' units" in served.check.changed


def test_the_unit_is_active_and_starts_with_the_host(served: Runs, ready: Place) -> None:
    unit = ready.host.service(UNIT)
    assert unit.is_running and unit.is_enabled
    assert status(ready, "/health") == "200"


def test_the_api_wants_the_key(served: Runs, ready: Place) -> None:
    assert status(ready, "/v1/models") == "401"
    assert status(ready, "/v1/models", f"-H 'Authorization: Bearer {KEY}'") == "200"


def test_the_container_has_only_the_rights_that_it_needs(served: Runs, ready: Place) -> None:
    facts = container(ready)
    host = facts["HostConfig"]
    assert not host["Privileged"] and not host["CapAdd"] and host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert facts["Config"]["User"] == "10001:10001"
    assert [device["PathOnHost"] for device in host["Devices"]] == ["/dev/kfd", "/dev/dri/renderD128"]
    gid = ready.sh("stat -c %g /dev/kfd").strip()
    assert host["GroupAdd"] == [gid]


def test_the_replica_listens_on_its_socket_alone(served: Runs, ready: Place) -> None:
    facts = container(ready)
    assert not facts["HostConfig"]["PortBindings"]
    settings = facts["NetworkSettings"]
    assert [settings[name] for name in ("IPAddress", "Ports") if name in settings] in (["", {}], [{}])
    inside = ready.sh(f"nsenter --net --target {facts['State']['Pid']} ip -o link").splitlines()
    assert [line.split(":")[1].strip() for line in inside] == ["lo"]


def test_only_root_and_the_node_proxy_may_connect_to_the_socket(served: Runs, ready: Place) -> None:
    modes = ready.sh(f"stat -c '%a %u %G' {SOCKET} {SOCKET.removesuffix('/sock')}").splitlines()
    assert modes == ["770 10001 fleet-proxy", "2750 10001 fleet-proxy"]
    command = f"setpriv --reuid=65534 --regid=65534 --clear-groups curl -s --unix-socket {SOCKET} http://replica/health"
    assert ready.sh(f"{command}; echo $?").strip() == "7"


def test_a_neighbour_reaches_ssh_and_nothing_else(served: Runs, ready: Place, lab: labs.Lab) -> None:
    """With a route to the containers' addresses: /tokenize and /metrics require no key."""
    node = ready.node
    addresses = neighbour.reaches(lab.name, f"{lab.name}-{node.name}", node.address)
    assert addresses == [f"{node.address}:22", f"{neighbour.BRIDGE}:22"]


def test_a_probe_with_a_picture_passes_over_the_socket(served: Runs, ready: Place) -> None:
    with ssh.connect(ready.node) as connection, connection.forward(SOCKET) as port:
        cases = probes.load(["bottle-grounding"], 0.5)
        (result,) = probes.run(f"http://127.0.0.1:{port}", KEY, "zai-org/GLM-4.6V", cases, lambda text: None)
    assert result.passed, result.seen


def test_a_user_who_becomes_root_reaches_the_socket(served: Runs, ready: Place) -> None:
    ready.sh(
        "useradd --create-home ops && install -d -m 700 -o ops /home/ops/.ssh"
        " && install -m 600 -o ops /root/.ssh/authorized_keys /home/ops/.ssh/"
        " && echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops"
    )
    target = dataclasses.replace(ready.node, user="ops", become=True)
    try:
        with ssh.connect(target) as connection, connection.forward(SOCKET) as port:
            answers = [urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20).status for _ in range(3)]
    finally:
        ready.sh("rm /etc/sudoers.d/ops; pkill -KILL -u ops; userdel --remove --force ops")
    assert answers == [200, 200, 200]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_api_serves_no_page_about_itself(served: Runs, ready: Place, path: str) -> None:
    assert status(ready, path) == "404"


def test_no_page_of_another_origin_may_call_the_api(served: Runs, ready: Place) -> None:
    options = "-X OPTIONS -H 'Origin: https://other.example' -H 'Access-Control-Request-Method: POST' -D - -o /dev/null"
    response = ready.sh(f"curl -s {options} --unix-socket {SOCKET} http://replica/v1/chat/completions").lower()
    assert response.startswith("http/") and "access-control-allow-origin" not in response


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("variables", "reached"),
    [
        ({"vllm_network": "bridge"}, [22]),
        ({"vllm_network": "host"}, [22]),
        ({"vllm_host_network": True, "vllm_host_address": "0.0.0.0"}, [22, 8000]),
    ],
)
def test_a_variable_selects_another_network(
    served: Runs, ready: Place, lab: labs.Lab, variables: dict[str, Any], reached: list[int]
) -> None:
    """On the host's network Gloo must stay on the loopback: by default it opens eight ports to the network for a single rank."""
    try:
        run = ready.run("serving", **{**SERVED, **paths(served), **variables})
        assert run.rc == 0, run.message
        replica = run.results["fleet_serving"]["replicas"][0]
        with ssh.connect(ready.node) as connection, connection.forward(address.socket_or_port(replica)) as port:
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20).status == 200
        addresses = neighbour.reaches(lab.name, f"{lab.name}-{ready.node.name}", ready.node.address)
        assert addresses == [f"{where}:{port}" for where in (ready.node.address, neighbour.BRIDGE) for port in reached]
    finally:
        last = ready.run("serving", **SERVED, **paths(served))
    assert last.rc == 0 and active(ready), last.message


def test_the_note_of_a_filled_cache_is_out_of_the_container_s_reach(served: Runs, ready: Place) -> None:
    assert ready.sh("stat -c '%U %a' /var/cache/vllm/*/.served-glm-0").split()[0] == "root"
    assert "/.served-glm-0" not in ready.sh("docker exec glm-0 find /var/cache/vllm -maxdepth 1")


def test_every_mount_but_the_cache_and_the_sockets_folder_is_read_only(served: Runs, ready: Place) -> None:
    writable = {mount["Destination"] for mount in container(ready)["Mounts"] if mount["RW"]}
    assert writable == {"/var/cache/vllm", "/run/fleet"}


def test_the_key_is_in_a_file_of_roots_and_nowhere_else(served: Runs, ready: Place) -> None:
    key = ready.host.file("/etc/fleet/vllm/key.env")
    assert (key.mode, key.user) == (0o600, "root") and KEY in key.content_string
    assert KEY not in ready.sh("ps -eo args")
    assert KEY not in ready.sh(f"journalctl -u {UNIT} -o cat; systemctl cat {UNIT}")
    assert KEY not in ready.sh("docker inspect glm-0; cat /var/lib/docker/containers/*/*.json")


def test_the_server_s_own_configuration_has_the_flags(served: Runs, ready: Place) -> None:
    config = yaml.safe_load(ready.sh("cat /etc/fleet/vllm/config.yaml"))
    assert config["served-model-name"] == "zai-org/GLM-4.6V"
    assert {name: config[name] for name in SERVED["vllm_flags"]} == SERVED["vllm_flags"]


def test_a_killed_container_restarts_healthy(served: Runs, ready: Place, until: Callable[..., None]) -> None:
    """It leaves locks of a process and a host that no longer exist, and its socket: the next start removes both."""
    before = container(ready)["Id"]
    cache = ready.sh("ls -d /var/cache/vllm/*/glm-0").strip()
    ready.sh(f"mkdir -p {cache}/aiter; echo 1 {before[:12]} | tee {cache}/aiter/lock_module_core {cache}/.ninja_lock")
    ready.sh("docker kill glm-0")
    until(lambda: active(ready) and container(ready)["Id"] != before, 600)
    assert status(ready, "/health") == "200"
    assert ready.sh(f"ls {cache}/aiter/lock_module_core {cache}/.ninja_lock 2>/dev/null || true") == ""


def test_a_flag_that_the_server_refuses_ends_with_its_own_words_and_a_stopped_unit(served: Runs, ready: Place) -> None:
    wrong = {**SERVED["vllm_flags"], "tool-call-parser": "no-such-parser"}
    run = ready.run("serving", **{**SERVED, **paths(served), "vllm_flags": wrong})
    state = ready.sh(f"systemctl is-active {UNIT} || true").strip()
    last = ready.run("serving", **SERVED, **paths(served))
    assert run.message.startswith("glm-0 did not become healthy; last output:\n") and "no-such-parser" in run.message
    assert state in ("inactive", "failed")
    assert last.rc == 0 and active(ready), last.message


def test_an_absent_model_folder_stops_the_run_before_any_change(served: Runs, ready: Place) -> None:
    run = ready.run("serving", **{**SERVED, **paths(served), "vllm_model_dir": "/srv/models/nope"})
    assert run.changed == [] and run.message.startswith("/srv/models/nope/config.json does not exist\nwanted: ")


def test_two_replicas_on_one_gpu_stop_the_run_before_any_change(served: Runs, ready: Place) -> None:
    twice = [{"name": "glm-0", "port": 8000, "gpus": [0]}, {"name": "glm-1", "port": 8001, "gpus": [0]}]
    run = ready.run("serving", **{**SERVED, **paths(served), "vllm_replicas": twice})
    assert run.changed == [] and "each name, port and GPU once" in run.message


@pytest.mark.exhaustive
def test_one_replica_is_restarted_with_new_flags_while_the_other_runs(served: Runs, ready: Place) -> None:
    """As in a turn that changes one replica after the other: the files are those of both."""
    two = [{"name": "glm-0", "port": 8000, "gpus": [0]}, {"name": "glm-1", "port": 8001, "gpus": [1]}]
    flags = {**SERVED["vllm_flags"], "max-model-len": 4096}

    def ids() -> list[str]:
        return ready.sh("docker inspect --format '{{.Id}}' glm-0 glm-1").split()

    def change(**more: Any) -> list[str]:
        run = ready.run("serving", **{**SERVED, **paths(served), "vllm_replicas": two, **more})
        assert run.rc == 0, run.message
        return ids()

    try:
        before = change()
        first = change(vllm_flags=flags, fleet_restarts=["glm-1"])
        second = change(vllm_flags=flags, fleet_restarts=["glm-0"])
    finally:
        last = ready.run("serving", **SERVED, **paths(served))
    assert (first[0], first[1] != before[1]) == (before[0], True)
    assert (second[0] != first[0], second[1]) == (True, first[1])
    assert last.rc == 0 and active(ready), last.message


def test_a_run_stops_a_replica_that_no_variable_names_and_removes_its_unit(served: Runs, ready: Place) -> None:
    unit = "# glm-fleet replica. by hand\\n[Service]\\nExecStart=/bin/sleep 600\\n"
    ready.sh(f"printf '{unit}' > /etc/systemd/system/old.service; systemctl daemon-reload; systemctl start old.service")
    run = ready.run("serving", **SERVED, **paths(served))
    assert run.changed == ["Stop the replica: old", "Remove the unit: old"]
    assert not ready.host.file("/etc/systemd/system/old.service").exists
