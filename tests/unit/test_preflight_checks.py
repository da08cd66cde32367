"""Each check of the preflight lets a healthy machine pass, and says of a sick one what was seen, what is wanted, what to do."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet import preflight, ssh
from fleet.cli import preflight as verb
from fleet.stack import requirements, role_vars, stack_file

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "preflight"
ROLES = role_vars.load(ROOT / "roles")
Change = Callable[[dict[str, Any]], None]


def wanted(machine: str = "prod-1", network: str = "host") -> preflight.Wanted:
    """Return what the stack prod wants of a machine, whose replicas listen on ports unless the network is another."""
    found = stack_file.read("prod", ROOT)
    found = found.model_copy(update={"vars": {**found.vars, "vllm_network": network}})
    told = requirements.wants(found, ROLES, machine, "organization/glm-fleet/prod")
    return preflight.Wanted.from_plan(ssh.Target(machine, "192.0.2.11"), told)


def healthy() -> dict[str, Any]:
    """Return what a bare machine with eight MI300X says of itself, before its first run."""
    gpu = {
        "device": "0x74a1",
        "driver": "",
        "speed": "32.0 GT/s PCIe",
        "width": "16",
        "vram": 0,
        "vbios": "113-M3000100-102",
        "compute": "",
        "memory": "",
    }
    ask = wanted()
    return {
        "system": "ubuntu 24.04",
        "kernel": "6.8.0-87-generic",
        "arch": "x86_64",
        "python": "3.12.3",
        "time": 0.0,
        "secure_boot": False,
        "lockdown": "[none] integrity confidentiality",
        "cmdline": ["BOOT_IMAGE=/vmlinuz", "quiet"],
        "gpus": [{"address": f"0000:{5 + 16 * number:02x}:00.0", **gpu} for number in range(8)],
        "bundles": [],
        "topology": [],
        "nodes": [],
        "kfd": False,
        "driver": {
            **{"loaded": "", "loaded_source": "", "built_source": "", "dkms": []},
            **{"path": "", "packages": {}, "signer": "", "signature": ""},
        },
        "enrolled": {"serials": [], "names": [], "dkms": False},
        "loader": {},
        "repositories": [],
        "images": {
            path: {"free": 3_000_000_000_000, "device": 1} for path in ("/var/lib/docker", "/var/lib/containerd")
        },
        "first_boot": False,
        "blacklists": [],
        "backups": [],
        "memory": 2_200_000_000_000,
        "nvme": ["nvme0n1", "nvme1n1"],
        "space": {one.path: {"free": 3_000_000_000_000, "device": 1, "filled": False} for one in ask.space},
        "reach": {**dict.fromkeys(ask.addresses, ""), "archive.example:80": ""},
        "locks": [],
        "half": [],
        "reboot": None,
        "headers": {
            "linux-headers-6.8.0-87-generic": "installable",
            "linux-modules-extra-6.8.0-87-generic": "not there",
        },
        "others": [],
        "ports": {},
        "disks": [],
        "docker": {
            **dict.fromkeys(("version", "root", "cgroup", "storage", "package"), ""),
            "there": False,
            "ours": False,
        },
        "owner": "",
        "systemd": True,
        "cgroup": 2,
        "notes": [],
    }


def after_a_run() -> dict[str, Any]:
    """Return what the same machine says once it serves."""
    facts = healthy()
    facts["driver"] |= {"loaded": "6.16.13", "loaded_source": "AB", "built_source": "AB"}
    facts["topology"] = [90402] * 8
    for gpu in facts["gpus"]:
        gpu |= {"driver": "amdgpu", "compute": "SPX", "memory": "NPS1"}
    facts["space"]["/srv/models"] |= {"free": 90_000_000_000, "filled": True}
    facts["docker"] |= {
        "there": True,
        "version": "28.2.2",
        "root": "/var/lib/docker",
        "cgroup": "2",
        "package": "docker.io",
    }
    facts["images"].pop("/var/lib/containerd")
    facts["driver"] |= {
        "path": "/lib/modules/6.8.0-87-generic/updates/dkms/amdgpu.ko.zst",
        "packages": {"amdgpu-dkms": "1:6.16.13.30300300-2327507.24.04"},
    }
    facts["ports"] = {"8000": {"pid": 7, "command": "/usr/bin/docker-proxy -proto tcp", "unit": "container glm-0"}}
    facts["owner"] = json.dumps(
        {"id": "organization/glm-fleet/prod", "since": "2026-11-26T12:00:00Z", "who": "ops@console"}
    )
    facts["cmdline"] += ["iommu=pt", "pci=realloc=off,bfsort"]
    return facts


def judged(facts: dict[str, Any], ahead: float = 0.2) -> list[preflight.Verdict]:
    """Return what is not ok."""
    return [one for one in preflight.judge(preflight.Look(facts, ahead), wanted()) if one.level != "ok"]


@pytest.mark.parametrize("facts", [healthy, after_a_run])
def test_a_healthy_machine_passes_before_and_after_its_first_run(facts: Callable[[], dict[str, Any]]) -> None:
    assert judged(facts()) == []


def put(*path: Any, to: Any) -> Change:
    """Return a change of one fact."""

    def change(facts: dict[str, Any]) -> None:
        for key in path[:-1]:
            facts = facts[key]
        facts[path[-1]] = to

    return change


OWNER = json.dumps({"id": "organization/glm-fleet/staging", "since": "2026-10-01T12:00:00Z", "who": "ops@console"})
SICK: dict[str, tuple[Change, str, str, str]] = {
    "another-system": (put("system", to="rhel 9.4"), "fault", "system", "rhel 9.4"),
    "another-architecture": (put("arch", to="aarch64"), "fault", "system", "aarch64"),
    "no-systemd": (put("systemd", to=False), "fault", "system", "no systemd"),
    "old-cgroups": (put("cgroup", to=1), "warning", "system", "cgroups v1"),
    "no-headers": (
        put("headers", to={"linux-headers-6.8.0-87-generic": "not there"}),
        "fault",
        "headers",
        "no package linux-headers-6.8.0-87-generic",
    ),
    "secure-boot": (
        put("secure_boot", to=True),
        "fault",
        "secure boot",
        "on: the kernel refuses a driver that is built here",
    ),
    "too-few-gpus": (lambda facts: facts["gpus"].pop(), "fault", "GPUs", "7 MI300X on the PCI bus"),
    "other-gpus": (
        put("gpus", 0, "device", to="0x740f"),
        "fault",
        "GPUs",
        "7 MI300X on the PCI bus, and 0000:05:00.0 0x740f",
    ),
    "a-slow-link": (
        put("gpus", 3, "speed", to="16.0 GT/s PCIe"),
        "warning",
        "links",
        "0000:35:00.0 16.0 GT/s PCIe x16",
    ),
    "a-narrow-link": (put("gpus", 3, "width", to="8"), "warning", "links", "0000:35:00.0 32.0 GT/s PCIe x8"),
    "another-vbios": (
        put("gpus", 3, "vbios", to="113-M3000100-101"),
        "warning",
        "firmware",
        "GPUs differ: 113-M3000100-101, 113-M3000100-102",
    ),
    "another-bundle-on-one": (
        put("bundles", to=["01.25.03.12"] * 7 + ["01.25.02.04"]),
        "warning",
        "firmware",
        "GPUs differ: 01.25.02.04, 01.25.03.12",
    ),
    "an-old-bundle": (put("bundles", to=["01.24.00.01"] * 8), "warning", "firmware", "bundle 01.24.00.01"),
    "a-blacklist": (
        put("blacklists", to=["/etc/modprobe.d/gpu.conf"]),
        "fault",
        "driver",
        "amdgpu is blacklisted in /etc/modprobe.d/gpu.conf",
    ),
    "backup-files": (
        put("backups", to=["/etc/modprobe.d/amdgpu.conf.bak"]),
        "warning",
        "modprobe.d",
        "left over: /etc/modprobe.d/amdgpu.conf.bak",
    ),
    "little-memory": (put("memory", to=512_000_000_000), "warning", "memory", "512 GB"),
    "no-nvme": (put("nvme", to=[]), "warning", "NVMe", "none"),
    "an-address-of-the-plan": (
        put("reach", "registry.example:443", to="connection refused"),
        "fault",
        "network",
        "registry.example:443: connection refused",
    ),
    "a-source-of-apt": (
        put("reach", "archive.example:80", to="no answer within 4 s"),
        "warning",
        "network",
        "archive.example:80: no answer within 4 s",
    ),
    "half-installed": (put("half", to=["pciutils"]), "warning", "apt", "half installed: pciutils"),
    "a-reboot-owed": (
        put("reboot", to=["linux-image-generic"]),
        "warning",
        "reboot",
        "the system asks for one for linux-image-generic",
    ),
    "a-lock": (
        put(
            "locks",
            to=[
                {
                    "path": "/var/lib/dpkg/lock-frontend",
                    "pid": 7,
                    "command": "unattended-upgr",
                    "unit": "apt-daily.service",
                }
            ],
        ),
        "warning",
        "apt",
        "locked by process 7 (unattended-upgr, of apt-daily.service): /var/lib/dpkg/lock-frontend",
    ),
    "an-orchestrator": (put("others", to=["kubelet"]), "fault", "orchestrator", "kubelet runs here"),
    "another-stack": (
        put("owner", to=OWNER),
        "fault",
        "owner",
        "the stack organization/glm-fleet/staging owns it since 2026-10-01T12:00:00Z (set up by ops@console)",
    ),
    "an-owner-without-a-name": (put("owner", to="?"), "fault", "owner", "/var/lib/fleet/owner.json names no stack"),
    "a-taken-port": (
        put("ports", to={"8001": {"pid": 7, "command": "nginx: master process", "unit": "nginx.service"}}),
        "fault",
        "ports",
        "8001 is taken by nginx: master process (nginx.service)",
    ),
    "another-container-on-a-port": (
        put("ports", to={"8001": {"pid": 7, "command": "/usr/bin/docker-proxy", "unit": "container web"}}),
        "fault",
        "ports",
        "8001 is taken by /usr/bin/docker-proxy (container web)",
    ),
    "a-silent-engine": (put("docker", "there", to=True), "fault", "Docker", "installed, and does not answer"),
    "a-driver-that-failed": (
        put("notes", to=["amdgpu: Fatal error during GPU init"]),
        "warning",
        "kernel log",
        "amdgpu: Fatal error during GPU init",
    ),
}


@pytest.mark.parametrize("claim", SICK)
def test_a_sick_machine_is_told_with_what_is_wanted_and_what_to_do(claim: str) -> None:
    change, level, check, seen = SICK[claim]
    facts = healthy()
    change(facts)
    (verdict,) = judged(facts)
    assert (verdict.level, verdict.check, verdict.seen) == (level, check, seen)
    assert verdict.wanted and verdict.next


@pytest.mark.parametrize(
    ("ahead", "told"),
    [(299, []), (-301, ["301 s behind this machine's"]), (86400, ["86400 s ahead of this machine's"])],
)
def test_a_clock_that_is_off_is_told(ahead: float, told: list[str]) -> None:
    assert [one.seen for one in judged(healthy(), ahead)] == told


def test_a_kernel_that_amd_does_not_list_is_told() -> None:
    facts = healthy()
    facts["kernel"] = "6.14.0-29-generic"
    facts["headers"] = {"linux-headers-6.14.0-29-generic": "installed"}
    assert [(one.level, one.check) for one in judged(facts)] == [("fault", "kernel")]


@pytest.mark.parametrize(
    ("loaded", "built", "gfx", "told"),
    [
        ("AB", "AB", 8, []),
        ("AB", "", 8, []),
        ("AB", "CD", 8, [("warning", "another one is built than is loaded")]),
        ("AB", "AB", 7, [("fault", "6.16.13 is loaded, KFD has 7 gfx942")]),
    ],
)
def test_the_loaded_driver_is_the_built_one_and_has_every_gpu(
    loaded: str, built: str, gfx: int, told: list[tuple[str, str]]
) -> None:
    facts = after_a_run()
    facts["driver"] |= {"loaded_source": loaded, "built_source": built}
    facts["topology"] = [90402] * gfx
    assert [(one.level, one.seen) for one in judged(facts)] == told


def test_a_disk_holds_all_that_will_lie_on_it() -> None:
    facts = healthy()
    for one in (*facts["space"].values(), *facts["images"].values()):
        one["free"] = 250_000_000_000  # enough for either
    (verdict,) = judged(facts)
    assert verdict.seen == "250 GB free at /srv/models, /var/lib/docker"
    assert verdict.wanted == "215 GB for the weights and 70 GB for the serving image (estimate)"
    facts["space"]["/srv/models"]["device"] = 2  # on disks of their own
    assert judged(facts) == []


@pytest.mark.parametrize("line", ["[drm] invalid ip discovery binary signature", "{1}[Hardware Error]: CPER"])
def test_false_alarms_that_users_know_are_named_as_such(line: str) -> None:
    facts = healthy()
    facts["notes"] = [line]
    assert judged(facts) == []
    told = [one.seen for one in preflight.judge(preflight.Look(facts, 0), wanted()) if one.check == "kernel log"]
    assert len(told) == 1 and told[0].startswith("known false alarm") and line in told[0]


def test_the_table_and_the_messages_read_as_they_should() -> None:
    sick = healthy()
    for claim in ("too-few-gpus", "secure-boot", "an-address-of-the-plan", "a-taken-port", "a-lock"):
        SICK[claim][0](sick)
    looks = {"prod-1": healthy(), "prod-2": sick, "prod-3": copy.deepcopy(sick)}
    reports = [
        verb.Report(name, preflight.judge(preflight.Look(facts, 0.2), wanted(name))) for name, facts in looks.items()
    ]
    reports.append(
        verb.Report(
            "prod-4",
            error="prod-4: connect to root@192.0.2.14:22: no answer within 15 s\n  wanted: an SSH server that lets us in",
        )
    )
    text = "\n\n".join([verb.as_table(reports, everything=False), *verb.problems(reports)])
    assert text + "\n" == (GOLDEN / "four-machines.txt").read_text()
    assert verb.as_table(reports[:1], everything=True) + "\n" == (GOLDEN / "healthy.txt").read_text()


def test_the_plan_wants_of_a_machine_what_its_roles_will_ask() -> None:
    builder, other = wanted("prod-1"), wanted("prod-2")
    assert set(builder.addresses) - set(other.addresses) == {"github.com:443"}  # only one machine builds
    assert builder.ports == {8000: "glm-0.service", 8001: "glm-1.service"}
    assert wanted(network="none").ports == wanted(network="bridge").ports == {}
    assert next((one.path, one.bytes) for one in builder.space) == ("/srv/models", 215_400_000_000)
    assert builder.kernels["debian 12"] == ("6.1",)


DISK = preflight.Filesystem("S64GNE0R123456", "/srv", "xfs")
EMPTY = {"serial": DISK.serial, "state": "empty", "why": "", "bytes": 3_840_000_000_000, "mounted": False}


def of_disks(disks: Any, free: int = 3_000_000_000_000) -> list[tuple[str, str, str]]:
    """Return what is said of disks and space where the stack wants /srv on a disk of its own."""
    facts = healthy()
    facts["disks"] = disks
    facts["space"]["/srv/models"] |= {"free": free, "device": 2}
    ask = dataclasses.replace(wanted(), filesystems=(DISK,))
    found = preflight.judge(preflight.Look(facts, 0.2), ask)
    return [(one.check, one.level, one.seen) for one in found if one.check in ("disks", "space")]


def test_an_empty_disk_takes_the_weights_whatever_is_free_below_its_folder() -> None:
    assert of_disks([EMPTY], free=0) == [
        ("space", "ok", "3000 GB free at /var/lib/docker, 70 GB needed"),
        ("disks", "ok", "disk S64GNE0R123456 for /srv: empty, 3840 GB"),
    ]
    mounted = {**EMPTY, "state": "ready", "mounted": True}
    assert of_disks([mounted], free=0)[0][:2] == ("space", "fault")


@pytest.mark.parametrize(
    ("disks", "seen"),
    [
        ([{**EMPTY, "state": "absent", "why": "no disk has this serial"}], "no disk has this serial"),
        ([{**EMPTY, "state": "refused", "why": "it holds\n ext4"}], "it holds ext4"),
        ([{**EMPTY, "state": "refused", "why": "x" * 9000}], "x" * 200),
        ([], "no answer"),
    ],
)
def test_a_disk_that_is_absent_or_holds_anything_is_a_fault(disks: Any, seen: str) -> None:
    assert of_disks(disks)[1] == ("disks", "fault", f"disk S64GNE0R123456 for /srv: {seen}")


def test_a_disk_that_is_too_small_is_a_fault() -> None:
    small = {**EMPTY, "bytes": 100_000_000_000}
    assert of_disks([small])[1] == ("disks", "fault", "disk S64GNE0R123456 for /srv has 100 GB")
