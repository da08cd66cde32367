"""Rules about disks: weights and serving image fit the system's disk, and host_filesystems names disks by serial.

The preflight checks disks whose size the stack file does not have, with the `needs` from here (fleet.stack.requirements).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.stack.rules.rule import MachinePlan, Rule, StackFinding, at_key

DOCKER = "/var/lib/docker"
# Bytes of an unpacked serving image (31 GB) and its layers during the pull. An estimate.
IMAGE = 70_000_000_000
# As in the role host: roles/host/vars/main.yml.
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{3,63}")
PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
SYSTEM = frozenset(
    [
        "/bin",
        "/boot",
        "/boot/efi",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/local",
        "/var",
        "/var/lib",
        "/var/log",
        "/var/tmp",
    ]
)
WANTED_SERIAL = "letters, digits and _.:-, as `lsblk -dno NAME,SERIAL` prints it on the machine"
WANTED_PATH = "an absolute path that is not a folder of the system, e.g. /srv or /var/lib/docker"


@dataclass(frozen=True)
class Need:
    """Bytes that must be free on the disk of a path, unless the file `filled` exists: then the content has been fetched."""

    path: str
    bytes: int
    what: str
    filled: str = ""


def needs(plan: MachinePlan) -> list[Need]:
    """Return the content that a machine's disks must hold: the weights, where the model is known, and the image."""
    values = plan.values
    options = values.get("docker_daemon_options") or {}
    image = Need(str(options.get("data-root") or DOCKER), IMAGE, "the serving image (estimate)")
    if not plan.model:
        return [image]
    folder = str(values.get("weights_dir", ""))
    filled = f"{folder}/{plan.repository}/{values.get('weights_revision', '')}/manifest.json"
    return [Need(folder, plan.model.weights, "the weights", filled), image]


def mount(values: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """Return the entry of host_filesystems that holds a path, the innermost; None for the system's own disk."""
    disks = values.get("host_filesystems") or ()
    holding = [disk for disk in disks if f"{path}/".startswith(f"{disk['path'].rstrip('/')}/")]
    return max(holding, key=lambda disk: len(disk["path"]), default=None)


def disk_fits(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a system disk that is smaller than its content."""
    if plan.disk is None:
        return
    on_system_disk = [need for need in needs(plan) if mount(plan.values, need.path) is None]
    total = sum(need.bytes for need in on_system_disk)
    if total <= plan.disk.gb * 10**9:
        return
    content = " and ".join(f"{need.bytes / 1e9:.0f} GB for {need.what}" for need in on_system_disk)
    size = f"{plan.disk.gb} GB" if plan.disk.named else f"as large as the image, about {plan.disk.gb} GB,"
    smallest = -(-total // 10**11) * 100  # in GB, rounded up: the system needs space, too
    paths = " and ".join(need.path for need in on_system_disk)
    yield at_key(
        "disk_gb",
        f"the disk is {size} and must hold {content}",
        f"at least {smallest}, or host_filesystems with a separate disk for {paths}",
        plan.disk.gb if plan.disk.named else "",
        machine=True,
    )


def disks_named(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a serial or path that the role host refuses, or that two entries have."""
    entries = plan.values.get("host_filesystems") or ()
    for place, entry in enumerate(entries):
        for key, form, allowed in (("serial", SERIAL, WANTED_SERIAL), ("path", PATH, WANTED_PATH)):
            value = str(entry.get(key, ""))
            if not form.fullmatch(value) or value in SYSTEM:
                yield at_key(f"host_filesystems[{place}].{key}", f"cannot be a {key}", allowed, value)
            elif value in [earlier.get(key) for earlier in entries[:place]]:
                yield at_key(f"host_filesystems[{place}].{key}", "is named twice", f"each {key} once", value)


RULES = (
    Rule(
        name="disks-named",
        holds="host_filesystems names each disk by its serial, each serial and path once, and no folder of the system.",
        reason="another name (/dev/nvme0n1) can mean another disk after the next boot, which would be formatted",
        source="roles/host/vars/main.yml: _host_serial_form, _host_path_form, _host_system_folders",
        check=disks_named,
    ),
    Rule(
        name="disk-fits",
        holds="Weights and serving image fit the system's disk, when the stack file sets its size or the source has a default.",
        reason="otherwise the cloud makes and bills a machine whose disk is full minutes into the fetch",
        source="fleet/stack/rules/data/models.yml; for the image an estimate: 31 GB, and its layers during the pull",
        check=disk_fits,
    ),
)
