"""Weights and serving image fit the disk that the plan names for them, and disks are named by serial; what lies where, for the preflight, too.

A disk of which the plan does not know the size (host_filesystems names a serial) is left to the preflight.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key

DOCKER = "/var/lib/docker"
# Bytes that a serving image takes unpacked (31 GB), with the layers beside it while they are pulled. An estimate.
IMAGE = 70_000_000_000


# As the role host has them: roles/host/vars/main.yml.
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
WANTED_PATH = "an absolute path of its own, e.g. /srv or /var/lib/docker"


@dataclass(frozen=True)
class Need:
    """Bytes that must be free where a path lies, but where the file `filled` exists: then what needs them has been fetched."""

    path: str
    bytes: int
    what: str
    filled: str = ""


def needs(planned: Planned) -> list[Need]:
    """Return what a machine's disks must hold: the weights, where the model is known, and the image."""
    values = planned.values
    options = values.get("docker_daemon_options") or {}
    image = Need(str(options.get("data-root") or DOCKER), IMAGE, "the serving image (estimate)")
    if not planned.model:
        return [image]
    folder = str(values.get("weights_dir", ""))
    filled = f"{folder}/{planned.repository}/{values.get('weights_revision', '')}/manifest.json"
    return [Need(folder, planned.model.weights, "the weights", filled), image]


def mount(values: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """Return the entry of host_filesystems on which a path lies, the innermost; None for the system's own disk."""
    found = [
        one for one in values.get("host_filesystems") or () if f"{path}/".startswith(f"{one['path'].rstrip('/')}/")
    ]
    return max(found, key=lambda one: len(one["path"]), default=None)


def fits(planned: Planned) -> Iterator[StackFinding]:
    """Yield a system disk that is smaller than what lies on it."""
    if planned.disk is None:
        return
    here = [need for need in needs(planned) if mount(planned.values, need.path) is None]
    total = sum(need.bytes for need in here)
    if total <= planned.disk.gb * 10**9:
        return
    what = " and ".join(f"{need.bytes / 1e9:.0f} GB for {need.what}" for need in here)
    size = f"{planned.disk.gb} GB" if planned.disk.named else f"as large as the image, about {planned.disk.gb} GB,"
    least = -(-total // 10**11) * 100  # rounded up: the system is on it, too
    yield at_key(
        "disk_gb",
        f"the disk is {size} and must hold {what}",
        f"at least {least}, or host_filesystems with a disk of its own for {' and '.join(need.path for need in here)}",
        planned.disk.gb if planned.disk.named else "",
        machine=True,
    )


def named(planned: Planned) -> Iterator[StackFinding]:
    """Yield a disk whose serial or path has another form than the role host takes, or is named twice."""
    entries = planned.values.get("host_filesystems") or ()
    for place, one in enumerate(entries):
        for key, form, wanted in (("serial", SERIAL, WANTED_SERIAL), ("path", PATH, WANTED_PATH)):
            value = str(one.get(key, ""))
            if not form.fullmatch(value) or value in SYSTEM:
                yield at_key(f"host_filesystems[{place}].{key}", f"is no {key}", wanted, value)
            elif value in [other.get(key) for other in entries[:place]]:
                yield at_key(f"host_filesystems[{place}].{key}", "is named twice", f"each {key} once", value)


RULES = (
    Rule(
        name="disks-named",
        holds="host_filesystems names each disk by its serial and each path once, and no folder of the system's own.",
        reason="a disk that is named otherwise (/dev/nvme0n1) is another one after the next boot, and would be formatted",
        source="roles/host/vars/main.yml: _host_serial_form, _host_path_form, _host_system_folders",
        check=named,
    ),
    Rule(
        name="disk-fits",
        holds="Weights and serving image fit the system's disk, where the stack file names its size or the source has a default.",
        reason="a cloud's machine is made and billed before its disk is full, minutes into the fetch",
        source="fleet/stack/rules/data/models.yml; the image is an estimate: 31 GB, and its layers while they are unpacked",
        check=fits,
    ),
)
