"""Disks of a lab node: files behind loop devices, with serials and udev's data. lab-disks does the work on the node.

Needs a running node whose kernel has loop devices. Called by tests. A disk exists as long as its node's container. To unplug it, leave
its serial out of the next `plug`; its content stays for a later one.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.commands import docker

HERE = Path(__file__).parent
UNIT = "/etc/systemd/system/lab-disks.service"


def plug(container: str, disks: Mapping[str, int]) -> None:
    """Set the disks of a node, {serial: bytes}. It sees them after its next boot, or at once when it had none."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "lab-disks"
        table.write_text("".join(f"{serial} {size}\n" for serial, size in disks.items()))
        docker("cp", str(table), f"{container}:/etc/lab-disks")
    docker("cp", str(HERE / "lab-disks"), f"{container}:/usr/local/sbin/lab-disks")
    docker("cp", str(HERE / "lab-disks.service"), f"{container}:{UNIT}")
    docker("exec", container, "systemctl", "daemon-reload")
    docker("exec", container, "systemctl", "enable", "--now", "lab-disks.service")
