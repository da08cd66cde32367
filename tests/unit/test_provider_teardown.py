"""What a delete requests of its machine (fleet/provider/teardown.py): remove what is ours, keep what was there and what is expensive."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fleet.ansible import converge, declarations
from fleet.managed import managed_set
from fleet.provider import base, teardown
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots

DECLARED = {
    "host": {
        "file /etc/security/limits.d/90-fleet.conf": True,
        "file /etc/docker/daemon.json": False,
        "package docker.io": True,
        "package pciutils": False,
        "package amdgpu-dkms": True,
        "package amd-smi-lib": True,
        "unit docker.service": True,
        "unit systemd-timesyncd.service": False,
        "sysctl vm.max_map_count": True,
    }
}
HEX = "[0-9a-f]"
NODE = {"name": "m", "address": "192.0.2.1", "host_key": "ssh-ed25519 AAAA"}


def request(kind: str, *purge: str, **properties: Any) -> dict[str, Any]:
    return teardown.request(kind, {"managed": {"declared": DECLARED.get(kind, {})}, **properties}, purge)


def test_a_delete_removes_what_we_made_and_restores_what_was_there() -> None:
    host = request("host", vars={"docker_daemon_options": {"log-driver": "journald"}})
    assert host["files"] == ["/etc/security/limits.d/90-fleet.conf"]
    assert host["restores"] == ["/etc/docker/daemon.json"]
    assert host["options"] == {"log-driver": "journald"}
    assert host["units"] == ["docker.service", teardown.SWITCH_UNIT]
    assert host["sysctls"] == ["vm.max_map_count"]
    assert host["ends"] is True


def test_a_delete_never_removes_docker_and_a_driver_that_were_adopted() -> None:
    """What apt did not install is not ours: docker-ce was there, and apt upgraded the vendor's driver."""
    events = [
        {"event": "ok", "action": "ansible.builtin.apt", "res": {"changed": False, "args": {"name": ["docker-ce"]}}},
        {"event": "ok", "action": "ansible.builtin.apt", "res": {"changed": True, "new": [], "args": {"name": ["amdgpu-dkms=*"]}}},
        {"event": "ok", "action": "ansible.builtin.systemd_service", "res": {"changed": False, "args": {"name": "docker.service", "state": "started"}}},
    ]  # fmt: skip
    declared = declarations.collect(events).to_json()
    host = teardown.request("host", {"managed": {"declared": declared}}, ("driver",))
    assert declared == {"package docker-ce": False, "package amdgpu-dkms": False, "unit docker.service": False}
    assert host["packages"] == [] and host["units"] == [teardown.SWITCH_UNIT]


def test_the_driver_stays_unless_the_stack_purges_it() -> None:
    kept = request("host")
    assert kept["packages"] == ["docker.io", "amd-smi-lib"]
    assert kept["keeps"] == [
        {"words": "the driver", "packages": ["amdgpu-dkms"], "remedy": "add driver to `glm-fleet:purge` to remove it"}
    ]
    purged = request("host", "driver")
    assert purged["packages"] == ["docker.io", "amdgpu-dkms", "amd-smi-lib"]
    assert purged["keeps"][0]["packages"] == []


def test_file_systems_on_named_disks_stay_mounted_and_are_reported() -> None:
    folder = r"/etc/systemd/system/dev-disk-by\x2duuid-74d88434.device.d"
    ours = ["file /etc/systemd/system/srv.mount", f"file {folder}", f"file {folder}/50-fleet.conf", "unit srv.mount"]
    declared = {**dict.fromkeys(ours, True), "file /etc/security/limits.d/90-fleet.conf": True, "file /srv": False}
    host = teardown.request("host", {"managed": {"declared": declared}}, ())
    assert (host["files"], host["units"]) == (["/etc/security/limits.d/90-fleet.conf"], [teardown.SWITCH_UNIT])
    assert host["keeps"][1:] == [
        {
            "words": "a mounted file system",
            "paths": ["/etc/systemd/system/srv.mount"],
            "remedy": "`systemctl disable --now srv.mount` on the node unmounts it and keeps its data",
        }
    ]


def test_a_driver_of_another_name_is_the_driver_too() -> None:
    assert "amdgpu-dkms" in request("host", vars={"rocm_driver_packages": ["amdgpu-custom"]})["packages"]


def test_the_weights_stay_unless_the_stack_purges_them() -> None:
    where = {"weights_dir": "/data", "weights_repository": "zai-org/GLM-4.6V"}
    revisions = [f"/data/zai-org/GLM-4.6V/{HEX * 40}", f"/data/zai-org/GLM-4.6V/.incoming-{HEX * 40}"]
    sums = f"/data/zai-org/GLM-4.6V/.wanted-{HEX * 40}.json"
    trees = [sums, f"/data/zai-org/GLM-4.6V/.chunks-{HEX * 40}", "/etc/fleet/weights"]
    kept, purged = request("weights", vars=where), request("weights", "weights", vars=where)
    assert (kept["trees"], kept["keeps"][0]["paths"]) == (trees, revisions)
    assert (purged["trees"], purged["models"], purged.get("keeps")) == (trees, ["/data/zai-org/GLM-4.6V"], None)


def test_images_and_caches_go_with_the_resource_that_needed_them() -> None:
    built = request("image", image="r/x@sha256:a", vars={"transformers_base_image": "r/b@sha256:b"})
    assert (built["images"], built["trees"]) == (["r/x@sha256:a", "r/b@sha256:b"], ["/var/lib/fleet/transformers"])
    served = request("serving", vars={"vllm_image": "r/x@sha256:a", "vllm_cache_dir": "/mnt/cache"})
    assert (served["images"], served["trees"]) == (["r/x@sha256:a"], [f"/mnt/cache/{HEX * 12}", *teardown.TURNS])


def test_what_stays_is_reported_beside_the_resource(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    messages: list[tuple[str, bool]] = []
    jobs: list[converge.Job] = []

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        jobs.append(job)
        results = {"fleet_teardown": {"stays": ["the model: /data/x (215 GB)"]}}
        return converge.Outcome(results, managed_set.Declared(), 1, 2, {})

    urn = "urn:pulumi:a::b::fleet:index:Weights::m"
    delete = base.Request(urn, lambda *message: messages.append(message), threading.Event())
    Playbook("Weights", ("path",), Slots(), run=run, purge=["weights"]).delete(delete, {"node": NODE, "vars": {}})
    assert messages == [("remains: the model: /data/x (215 GB)", False)]
    assert jobs[0].data["managed"] == request("weights", "weights", vars={})


@pytest.mark.parametrize("kind", ["host", "image", "weights", "serving"])
def test_a_resource_that_failed_before_it_had_anything_can_be_deleted(kind: str) -> None:
    nothing = teardown.request(kind, {"managed": None, "image": None, "vars": {}}, ())
    assert nothing["files"] == nothing["packages"] == [] and nothing["units"] in ([], [teardown.SWITCH_UNIT])


def test_a_delete_of_a_gateway_removes_its_keys_its_state_and_the_users_that_it_made() -> None:
    made = {
        "unit fleet-proxy.service": True,
        "package haproxy": True,
        "user fleet-proxy": True,
        "group fleet-proxy": False,
    }
    gateway = teardown.request("gateway", {"managed": {"declared": made}}, ())
    assert (gateway["units"], gateway["packages"]) == (["fleet-proxy.service"], ["haproxy"])
    assert (gateway["users"], gateway["groups"]) == (["fleet-proxy"], [])
    assert {"/etc/fleet/proxy", "/etc/fleet/gateway", "/var/lib/fleet-proxy"} <= {*gateway["trees"]}


def test_a_delete_of_the_host_removes_a_dead_man_s_switch_that_no_run_has_confirmed() -> None:
    host = request("host")
    assert "fleet-boot-revert.timer" in host["units"]
    assert {"/etc/systemd/system/fleet-boot-revert.*", "/var/lib/fleet/boot-revert"} < {*host["trees"]}


MEMBER = {
    "package containerd": True,
    "package kubelet": True,
    "unit kubelet.service": True,
    "sysctl net.ipv4.ip_forward": True,
}


def test_a_member_leaves_its_cluster_and_takes_the_runtime_that_we_installed_with_it() -> None:
    member = teardown.request("member", {"managed": {"declared": MEMBER}}, ())
    assert member["member"] and {
        "/etc/kubernetes",
        "/var/lib/etcd",
        "/var/lib/fleet/etcd",
        "/var/lib/containerd",
    } <= set(member["trees"])
    assert (member["packages"], member["sysctls"]) == (["containerd", "kubelet"], ["net.ipv4.ip_forward"])
    assert [thing["path"] for thing in member["until_reboot"]] == ["/etc/kubernetes/fleet/member"]


def test_a_container_runtime_that_was_there_before_the_member_keeps_its_data() -> None:
    member = teardown.request("member", {"managed": {"declared": MEMBER | {"package containerd": False}}}, ())
    assert not [path for path in member["trees"] if "containerd" in path or "cni" in path]
