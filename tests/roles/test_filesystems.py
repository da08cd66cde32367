"""host_filesystems on a lab node whose disks are loop devices: the role makes them once, mounts them at each boot, touches nothing else.

A lab of its own, with one node; the role host alone, and a stand-in for docker.service.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest

from fleet import ssh
from lab import disks
from tests.support import labs, playbook

pytestmark = pytest.mark.exhaustive

LAB, NODE, MIB = "glm-disks", "disks", 1 << 20
DISKS = {"LAB0NVME0001": 512 * MIB, "LAB0NVME0002": 512 * MIB, "LAB0NVME0003": 512 * MIB}
SRV = {"serial": "LAB0NVME0001", "path": "/srv", "type": "ext4", "owner": 10001, "group": 10001}
DATA = {"serial": "LAB0NVME0002", "path": "/data/image-store", "type": "xfs", "options": ["noatime", "nodiratime"]}
STAND_IN = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
BYTE = "printf x | dd of={0} bs=1 conv=notrunc status=none"
MOUNT = "mkdir -p /mnt/other && mount -o ro,noload {0} /mnt/other"


class Node:
    """The node, and the role's runs there."""

    def __init__(self, lab: labs.Lab) -> None:
        self.target, self.vars = lab.nodes[NODE], {**lab.vars, "host_time_service": "", "host_kernel_arguments": []}

    def sh(self, command: str, stdin: str = "") -> str:
        run = subprocess.run(
            ["docker", "exec", "-i", f"{LAB}-{NODE}", "sh", "-c", command], input=stdin, capture_output=True, text=True
        )
        assert run.returncode == 0, f"{command}: {run.stderr or run.stdout}"
        return run.stdout

    def role(self, *filesystems: dict[str, object], check: bool = False) -> playbook.Run:
        """Run the role host alone."""
        return playbook.run(self.target, "role-host", {**self.vars, "host_filesystems": list(filesystems)}, check=check)

    def reboot(self) -> None:
        before = self.sh("cat /proc/sys/kernel/random/boot_id")
        self.sh("systemctl reboot || true")
        subprocess.run(["docker", "wait", f"{LAB}-{NODE}"], capture_output=True, timeout=60, check=False)
        ssh.wait(self.target, labs.BOOT, lambda _text: None)
        assert self.sh("cat /proc/sys/kernel/random/boot_id") != before


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with labs.stand(LAB, {NODE: "debian-12"}, tmp_path_factory.mktemp("lab") / "keys") as lab:
        disks.plug(f"{LAB}-{NODE}", DISKS)
        node = Node(lab)
        node.sh("cat > /etc/systemd/system/docker.service", STAND_IN)
        node.sh("systemctl daemon-reload && systemctl enable --now docker.service")
        yield node


@pytest.fixture(scope="module")
def runs(node: Node) -> dict[str, playbook.Run]:
    """A run in check mode, two real ones, one in check mode."""
    check = node.role(SRV, DATA, check=True)
    assert node.sh("ls /etc/systemd/system/*.mount /var/lib/fleet 2>/dev/null || true") == ""
    first, second = node.role(SRV, DATA), node.role(SRV, DATA)
    return {"check": check, "first": first, "second": second, "last check": node.role(SRV, DATA, check=True)}


def device(node: Node, serial: str) -> str:
    """Return the device with a serial, by lsblk."""
    devices = json.loads(node.sh("lsblk --json --nodeps --output PATH,SERIAL"))["blockdevices"]
    return next(str(device["path"]) for device in devices if device["serial"] == serial)


def test_check_mode_reports_the_file_systems_and_makes_none(runs: dict[str, playbook.Run]) -> None:
    assert runs["check"].rc == 0, runs["check"].message
    assert "Report the file systems that would be made" in runs["check"].changed


def test_a_run_makes_and_mounts_the_file_systems(node: Node, runs: dict[str, playbook.Run]) -> None:
    assert runs["first"].rc == 0, runs["first"].message
    mounts = node.sh("findmnt -rno FSTYPE,OPTIONS /srv; findmnt -rno FSTYPE,OPTIONS /data/image-store").splitlines()
    assert mounts[0].startswith("ext4 rw,noatime") and mounts[1].startswith("xfs rw,noatime,nodiratime")
    assert node.sh("stat -c %u:%g /srv") == "10001:10001\n"


def test_a_second_run_changes_nothing_and_check_mode_reports_that(runs: dict[str, playbook.Run]) -> None:
    for name in ("second", "last check"):
        assert (runs[name].rc, runs[name].changed) == (0, []), runs[name].message


def test_after_a_reboot_they_are_mounted_with_their_content(node: Node, runs: dict[str, playbook.Run]) -> None:
    node.sh("echo weights > /srv/model")
    node.reboot()
    node.sh("systemctl start srv.mount docker.service")
    assert node.sh("cat /srv/model") == "weights\n"
    assert node.role(SRV, DATA).changed == []


def test_without_the_disk_the_boot_ends_docker_stays_off_and_a_run_reports_why(
    node: Node, runs: dict[str, playbook.Run]
) -> None:
    disks.plug(f"{LAB}-{NODE}", {serial: size for serial, size in DISKS.items() if serial != SRV["serial"]})
    node.reboot()
    output = node.sh("systemctl start docker.service 2>&1; systemctl is-active docker.service || true")
    assert output.endswith("inactive\n")
    assert node.sh("ls /srv") == ""
    run = node.role(SRV, DATA)
    assert run.changed == [] and "disk LAB0NVME0001 for /srv: no disk has this serial" in run.message
    disks.plug(f"{LAB}-{NODE}", DISKS)
    node.reboot()
    node.sh("systemctl start docker.service")
    assert node.sh("cat /srv/model") == "weights\n"


@pytest.mark.parametrize(
    ("claim", "make", "reason"),
    [
        ("a file system", "mkfs.ext4 -q -L theirs {0}", "it holds ext4 (label theirs)"),
        ("swap", "mkswap -q {0} >/dev/null", "it holds swap"),
        ("bytes at its start", f"{BYTE} seek=70000", "its first MiB is not zero"),
        ("bytes at its end", f"{BYTE} seek=536870000", "its last MiB is not zero"),
        ("a mount, which itself writes nothing", f"mkfs.ext4 -q {{0}} && {MOUNT}", "it is mounted at /mnt/other"),
    ],
)
def test_a_run_refuses_a_disk_that_holds_anything_before_any_change(
    node: Node, runs: dict[str, playbook.Run], claim: str, make: str, reason: str
) -> None:
    place = device(node, "LAB0NVME0003")
    node.sh(make.format(place))
    before = node.sh(f"sha256sum {place}")
    run = node.role(SRV, DATA, {"serial": "LAB0NVME0003", "path": "/mnt/third", "type": "ext4"})
    assert run.rc != 0 and run.changed == []
    assert f"disk LAB0NVME0003 ({place}) for /mnt/third: " in run.message and reason in run.message
    assert node.sh(f"sha256sum {place}") == before
    node.sh("umount /mnt/other 2>/dev/null; true")
    node.sh(f"dd if=/dev/zero of={place} bs=1M count=512 conv=notrunc status=none")


@pytest.mark.parametrize(
    ("claim", "change", "reason"),
    [
        ("a serial that no disk has", {"serial": "LAB0NVME0009"}, "no disk has this serial"),
        ("another type than was made", {"serial": DATA["serial"], "path": "/data/image-store", "type": "ext4"}, "xfs"),
        ("another path than it is mounted at", {**DATA, "path": "/elsewhere"}, "it is mounted at /data/image-store"),
        ("a folder that holds something", {"path": "/mnt/full"}, "/mnt/full holds file, which a mount would hide"),
        ("a folder of the system", {"path": "/etc"}, "an absolute path that is not a system folder"),
    ],
)
def test_a_run_refuses_an_impossible_file_system(
    node: Node, runs: dict[str, playbook.Run], claim: str, change: dict[str, object], reason: str
) -> None:
    node.sh("mkdir -p /mnt/full && touch /mnt/full/file")
    run = node.role(SRV, {"serial": "LAB0NVME0003", "path": "/mnt/third", "type": "ext4", **change})
    assert run.rc != 0 and run.changed == []
    assert reason in run.message


def test_a_run_makes_a_file_system_again_after_a_kill(node: Node, runs: dict[str, playbook.Run]) -> None:
    place = device(node, "LAB0NVME0003")
    node.sh(f"{BYTE} seek=70000".format(place))
    node.sh(
        "python3 -c \"import json,pathlib; p=pathlib.Path('/var/lib/fleet/filesystems.json'); r=json.loads(p.read_text());"
        "r['LAB0NVME0003']={'state': 'making'}; p.write_text(json.dumps(r))\""
    )
    third = {"serial": "LAB0NVME0003", "path": "/mnt/third", "type": "ext4"}
    assert node.role(SRV, DATA, third).rc == 0
    assert node.role(SRV, DATA, third).changed == []
    assert node.sh("findmnt -rno FSTYPE /mnt/third") == "ext4\n"
