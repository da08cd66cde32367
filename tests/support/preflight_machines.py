"""Facts for the preflight: a healthy machine before and after its first run, and faults that each make one check fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet import preflight, ssh
from fleet.stack import requirements, role_vars, stack_file

ROOT = Path(__file__).resolve().parents[2]
ROLES = role_vars.load(ROOT / "roles")
Change = Callable[[dict[str, Any]], None]
HEADERS = {"headers": "installable", "modules-extra": "not there"}


def prod_requirements(machine: str = "prod-1", network: str = "host") -> preflight.Requirements:
    """Return the requirements of the stack prod for a machine; its replicas listen on ports on the network "host" alone."""
    stack = stack_file.read("prod", ROOT)
    stack = stack.model_copy(update={"vars": {**stack.vars, "vllm_network": network}})
    wants = requirements.of_machine(stack, ROLES, machine, "organization/glm-fleet/prod")
    return preflight.Requirements.from_plan(ssh.Target(machine, "192.0.2.11"), wants)


def healthy() -> dict[str, Any]:
    """Return the facts of a bare machine with eight MI300X, before its first run."""
    link = {"speed": "32.0 GT/s PCIe", "width": "16"}
    gpu = {
        "device": "0x74a1",
        "driver": "",
        **link,
        "vram": 0,
        "vbios": "113-M3000100-102",
        "compute": "",
        "memory": "",
    }
    requirements_of_prod = prod_requirements()
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
        "images": {f"/var/lib/{name}": {"free": 3_000_000_000_000, "device": 1} for name in ("docker", "containerd")},
        "first_boot": False,
        "blacklists": [],
        "backups": [],
        "memory": 2_200_000_000_000,
        "nvme": ["nvme0n1", "nvme1n1"],
        "space": {
            space.path: {"free": 3_000_000_000_000, "device": 1, "filled": False}
            for space in requirements_of_prod.space
        },
        "reach": {**dict.fromkeys(requirements_of_prod.addresses, ""), "archive.example:80": ""},
        "locks": [],
        "half": [],
        "reboot": None,
        "headers": {f"linux-{name}-6.8.0-87-generic": text for name, text in HEADERS.items()},
        "others": [],
        "boot": {"armed": False, "reverted": None},
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
    """Return the facts of the same machine once it serves."""
    facts = healthy()
    facts["driver"] |= {"loaded": "6.16.13", "loaded_source": "AB", "built_source": "AB"}
    facts["topology"] = [90402] * 8
    for gpu in facts["gpus"]:
        gpu |= {"driver": "amdgpu", "compute": "SPX", "memory": "NPS1"}
    facts["space"]["/srv/models"] |= {"free": 90_000_000_000, "filled": True}
    facts["docker"] |= {"there": True, "version": "28.2.2", "root": "/var/lib/docker", "cgroup": "2"}
    facts["docker"]["package"] = "docker.io"
    facts["images"].pop("/var/lib/containerd")
    facts["driver"] |= {
        "path": "/lib/modules/6.8.0-87-generic/updates/dkms/amdgpu.ko.zst",
        "packages": {"amdgpu-dkms": "1:6.16.13.30300300-2327507.24.04"},
    }
    facts["ports"] = {"8000": {"pid": 7, "command": "/usr/bin/docker-proxy -proto tcp", "unit": "container glm-0"}}
    owner = {"id": "organization/glm-fleet/prod", "since": "2026-11-26T12:00:00Z", "who": "ops@console"}
    facts["owner"] = json.dumps(owner)
    facts["cmdline"] += ["iommu=pt", "pci=realloc=off,bfsort"]
    return facts


def not_ok(facts: dict[str, Any], ahead: float = 0.2) -> list[preflight.CheckResult]:
    """Return the checks that are not ok."""
    return [
        result
        for result in preflight.check(preflight.Observation(facts, ahead), prod_requirements())
        if result.level != "ok"
    ]


def put(*path: Any, to: Any) -> Change:
    """Return a change of one fact."""

    def change(facts: dict[str, Any]) -> None:
        for key in path[:-1]:
            facts = facts[key]
        facts[path[-1]] = to

    return change


OWNER = json.dumps({"id": "organization/glm-fleet/staging", "since": "2026-10-01T12:00:00Z", "who": "ops@console"})
LOCK = {"path": "/var/lib/dpkg/lock-frontend", "pid": 7, "command": "unattended-upgr", "unit": "apt-daily.service"}
REVERTED = {"when": "2026-11-29 12:00:00 UTC", "words": ["iommu=pt"], "timeout": 900, "failed": ["networking.service"]}
# A row a fault: its change of the facts, the level, the check, the fact that the check reports.
FAULTS: dict[str, tuple[Change, str, str, str]] = {
    "another-system": (put("system", to="rhel 9.4"), "error", "system", "rhel 9.4"),
    "another-architecture": (put("arch", to="aarch64"), "error", "system", "aarch64"),
    "no-systemd": (put("systemd", to=False), "error", "system", "no systemd"),
    "old-cgroups": (put("cgroup", to=1), "warning", "system", "cgroups v1"),
    "no-headers": (put("headers", to={"linux-headers-6.8.0-87-generic": "not there"}), "error", "headers", "no package linux-headers-6.8.0-87-generic"),
    "secure-boot": (put("secure_boot", to=True), "error", "secure boot", "on: the kernel refuses a driver that is built here"),
    "too-few-gpus": (lambda facts: facts["gpus"].pop(), "error", "GPUs", "7 MI300X on the PCI bus"),
    "other-gpus": (put("gpus", 0, "device", to="0x740f"), "error", "GPUs", "7 MI300X on the PCI bus, and 0000:05:00.0 0x740f"),
    "a-slow-link": (put("gpus", 3, "speed", to="16.0 GT/s PCIe"), "warning", "links", "0000:35:00.0 16.0 GT/s PCIe x16"),
    "a-narrow-link": (put("gpus", 3, "width", to="8"), "warning", "links", "0000:35:00.0 32.0 GT/s PCIe x8"),
    "another-vbios": (put("gpus", 3, "vbios", to="113-M3000100-101"), "warning", "firmware", "GPUs differ: 113-M3000100-101, 113-M3000100-102"),
    "another-bundle-on-one": (put("bundles", to=["01.25.03.12"] * 7 + ["01.25.02.04"]), "warning", "firmware", "GPUs differ: 01.25.02.04, 01.25.03.12"),
    "an-old-bundle": (put("bundles", to=["01.24.00.01"] * 8), "warning", "firmware", "bundle 01.24.00.01"),
    "a-blacklist": (put("blacklists", to=["/etc/modprobe.d/gpu.conf"]), "error", "driver", "amdgpu is blacklisted in /etc/modprobe.d/gpu.conf"),
    "backup-files": (put("backups", to=["/etc/modprobe.d/amdgpu.conf.bak"]), "warning", "modprobe.d", "left over: /etc/modprobe.d/amdgpu.conf.bak"),
    "little-memory": (put("memory", to=512_000_000_000), "warning", "memory", "512 GB"),
    "no-nvme": (put("nvme", to=[]), "warning", "NVMe", "none"),
    "an-address-of-the-plan": (put("reach", "registry.example:443", to="connection refused"), "error", "network", "registry.example:443: connection refused"),
    "a-source-of-apt": (put("reach", "archive.example:80", to="no answer within 4 s"), "warning", "network", "archive.example:80: no answer within 4 s"),
    "half-installed": (put("half", to=["pciutils"]), "warning", "apt", "half installed: pciutils"),
    "a-reboot-owed": (put("reboot", to=["linux-image-generic"]), "warning", "reboot", "pending for linux-image-generic"),
    "an-unconfirmed-boot": (put("boot", "armed", to=True), "warning", "boot", "no run has confirmed the kernel arguments: the host goes back to its earlier ones after a boot"),
    "a-boot-that-was-reverted": (put("boot", "reverted", to=REVERTED), "warning", "boot", "the host went back to its earlier kernel arguments by itself at 2026-11-29 12:00:00 UTC: no run had confirmed iommu=pt within 900 s after its boot; failed units: networking.service"),
    "a-lock": (put("locks", to=[LOCK]), "warning", "apt", "locked by process 7 (unattended-upgr, of apt-daily.service): /var/lib/dpkg/lock-frontend"),
    "an-orchestrator": (put("others", to=["kubelet"]), "error", "orchestrator", "kubelet runs here"),
    "another-stack": (put("owner", to=OWNER), "error", "owner", "the stack organization/glm-fleet/staging owns it since 2026-10-01T12:00:00Z (set up by ops@console)"),
    "an-owner-without-a-name": (put("owner", to="?"), "error", "owner", "/var/lib/fleet/owner.json names no stack"),
    "a-taken-port": (put("ports", to={"8001": {"pid": 7, "command": "nginx: master process", "unit": "nginx.service"}}), "error", "ports", "nginx: master process (nginx.service) listens on 8001"),
    "another-container-on-a-port": (put("ports", to={"8001": {"pid": 7, "command": "/usr/bin/docker-proxy", "unit": "container web"}}), "error", "ports", "/usr/bin/docker-proxy (container web) listens on 8001"),
    "a-silent-engine": (put("docker", "there", to=True), "error", "Docker", "installed, but does not answer"),
    "a-driver-that-failed": (put("notes", to=["amdgpu: Fatal error during GPU init"]), "warning", "kernel log", "amdgpu: Fatal error during GPU init"),
}  # fmt: skip
