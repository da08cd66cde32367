"""Disks of a lab node: files behind loop devices, with serials, and what udev would say of them. lab-disks on the node has the rest.

Needs a running node whose kernel has loop devices. Called by tests. A disk lives as long as its node's container: it is taken out
by leaving its serial out of the next `plug`, and what was on it stays for the one after.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.commands import docker

HERE = Path(__file__).parent
UNIT = "/etc/systemd/system/lab-disks.service"


def plug(container: str, disks: Mapping[str, int]) -> None:
    """Say which disks a node has, {serial: bytes}; the node has them after its next boot, or now where it had none."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "lab-disks"
        table.write_text("".join(f"{serial} {size}\n" for serial, size in disks.items()))
        docker("cp", str(table), f"{container}:/etc/lab-disks")
    docker("cp", str(HERE / "lab-disks"), f"{container}:/usr/local/sbin/lab-disks")
    docker("cp", str(HERE / "lab-disks.service"), f"{container}:{UNIT}")
    docker("exec", container, "systemctl", "daemon-reload")
    docker("exec", container, "systemctl", "enable", "--now", "lab-disks.service")
