"""Claims about the role vllm (playbooks/serving.yml): a hardened container a replica, active only when healthy; on Ubuntu 24.04.

The engine is the real vLLM; a start takes it half a minute, so claims share the one that `served` made and end with it running.
"""

import json
from collections.abc import Callable
from typing import Any

import yaml

from tests.roles.conftest import KEY, SERVED, Place, Runs

UNIT, PORT = "glm-0.service", 8000


def status(place: Place, path: str, *more: str) -> str:
    return place.sh(f"curl -s -o /dev/null -w %{{http_code}} {' '.join(more)} http://127.0.0.1:{PORT}{path} || true")


def active(place: Place) -> bool:
    return place.sh(f"systemctl is-active {UNIT} || true").strip() == "active"


def test_check_mode_tells_and_changes_nothing(served: Runs) -> None:
    assert served.told.rc == 0, served.told.message
    assert "Ensure a unit for every replica" in served.told.changed
    assert served.there_after_told == []


def test_a_second_run_changes_nothing(served: Runs) -> None:
    assert served.first.rc == 0, served.first.message
    assert (served.second.rc, served.second.changed) == (0, [])


def test_check_mode_on_a_running_replica_tells_of_nothing(served: Runs) -> None:
    assert (served.told_again.rc, served.told_again.changed) == (0, [])


def test_the_unit_is_active_and_starts_with_the_host(served: Runs, ready: Place) -> None:
    unit = ready.host.service(UNIT)
    assert unit.is_running and unit.is_enabled
    assert status(ready, "/health") == "200"


def test_the_api_wants_the_key(served: Runs, ready: Place) -> None:
    assert status(ready, "/v1/models") == "401"
    assert status(ready, "/v1/models", f"-H 'Authorization: Bearer {KEY}'") == "200"


def container(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.sh("docker inspect glm-0"))[0]
    return found


def test_the_container_has_no_right_that_it_does_not_need(served: Runs, ready: Place) -> None:
    seen = container(ready)
    host = seen["HostConfig"]
    assert not host["Privileged"] and not host["CapAdd"] and host["NetworkMode"] in ("default", "bridge")
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert seen["Config"]["User"] == "10001:10001"
    assert [device["PathOnHost"] for device in host["Devices"]] == ["/dev/kfd", "/dev/dri/renderD128"]
    gid = ready.sh("stat -c %g /dev/kfd").strip()
    assert host["GroupAdd"] == [gid]


def test_the_replica_listens_on_loopback_alone(served: Runs, ready: Place) -> None:
    assert ready.host.socket(f"tcp://127.0.0.1:{PORT}").is_listening
    published = container(ready)["HostConfig"]["PortBindings"]
    assert {one["HostIp"] for ports in published.values() for one in ports} == {"127.0.0.1"}


def test_all_that_is_mounted_is_read_only_but_the_cache(served: Runs, ready: Place) -> None:
    writable = {mount["Destination"] for mount in container(ready)["Mounts"] if mount["RW"]}
    assert writable == {"/var/cache/vllm"}


def test_the_key_is_in_a_file_of_roots_and_nowhere_else(served: Runs, ready: Place) -> None:
    key = ready.host.file("/etc/fleet/vllm/key.env")
    assert (key.mode, key.user) == (0o600, "root") and KEY in key.content_string
    assert KEY not in ready.sh("ps -eo args")
    assert KEY not in ready.sh(f"journalctl -u {UNIT} -o cat; systemctl cat {UNIT}")
    assert KEY not in ready.sh("docker inspect glm-0; cat /var/lib/docker/containers/*/*.json")


def test_flags_stand_in_the_engines_own_configuration(served: Runs, ready: Place) -> None:
    config = yaml.safe_load(ready.sh("cat /etc/fleet/vllm/config.yaml"))
    assert config["served-model-name"] == "zai-org/GLM-4.6V"
    assert {name: config[name] for name in SERVED["vllm_flags"]} == SERVED["vllm_flags"]


def test_a_container_that_is_killed_comes_back_healthy(served: Runs, ready: Place, until: Callable[..., None]) -> None:
    before = container(ready)["Id"]
    ready.sh("docker kill glm-0")
    until(lambda: active(ready) and container(ready)["Id"] != before, 600)
    assert status(ready, "/health") == "200"


def test_a_flag_that_the_engine_refuses_ends_with_its_own_words_and_a_stopped_unit(served: Runs, ready: Place) -> None:
    wrong = {**SERVED["vllm_flags"], "tool-call-parser": "no-such-parser"}
    seen = ready.run("serving", **{**SERVED, **paths(served), "vllm_flags": wrong})
    state = ready.sh(f"systemctl is-active {UNIT} || true").strip()
    mended = ready.run("serving", **SERVED, **paths(served))
    assert (
        seen.message.startswith("start glm-0: not healthy; what it said last:\n") and "no-such-parser" in seen.message
    )
    assert state in ("inactive", "failed")
    assert mended.rc == 0 and active(ready), mended.message


def test_a_model_folder_that_is_not_there_stops_before_any_change(served: Runs, ready: Place) -> None:
    seen = ready.run("serving", **{**SERVED, **paths(served), "vllm_model_dir": "/srv/models/nope"})
    assert seen.changed == [] and seen.message.startswith("/srv/models/nope/config.json is not there\nwanted: ")


def test_two_replicas_on_one_gpu_stop_before_any_change(served: Runs, ready: Place) -> None:
    twice = [{"name": "glm-0", "port": 8000, "gpus": [0]}, {"name": "glm-1", "port": 8001, "gpus": [0]}]
    seen = ready.run("serving", **{**SERVED, **paths(served), "vllm_replicas": twice})
    assert seen.changed == [] and "each name, port and GPU once" in seen.message


def test_a_replica_that_is_no_longer_wanted_is_stopped_and_its_unit_removed(served: Runs, ready: Place) -> None:
    ready.sh(
        "printf '# glm-fleet replica. by hand\\n[Service]\\nExecStart=/bin/sleep 600\\n' > /etc/systemd/system/old.service"
    )
    ready.sh("systemctl daemon-reload; systemctl start old.service")
    seen = ready.run("serving", **SERVED, **paths(served))
    assert seen.changed == ["Ensure the replica is stopped: old", "Ensure its unit is gone: old"]
    assert not ready.host.file("/etc/systemd/system/old.service").exists


def paths(served: Runs) -> dict[str, Any]:
    """The image and the model that the program hands over."""
    return {name: served.variables[name] for name in ("vllm_image", "vllm_model_dir", "vllm_model_manifest")}
