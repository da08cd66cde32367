"""The image of a lab node: a system as its installer leaves it, with sshd and Python, and nothing that a role installs.

Called by lab.build and by the lab's plugin. The stand-ins for firmware, kernel and GPUs are in node/.
"""

from pathlib import Path

from lab.commands import say
from lab.images import rootfs
from lab.images.rootfs import Recipe

FILES = Path(__file__).with_name("node")
SUITES = {
    "debian-12": "bookworm",
    "debian-13": "trixie",
    "ubuntu-22.04": "jammy",
    "ubuntu-24.04": "noble",
    "ubuntu-26.04": "resolute",
}
PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-apt",
    "sudo",
    "iproute2",
    "ca-certificates",
    "iputils-ping",
    "curl",
    "procps",
    "kmod",
    "iptables",
    "gpg",
    "dmsetup",
    "grub2-common",
    "pciutils",
]


def recipe(system: str) -> Recipe:
    """Return the recipe of a system's node."""
    return Recipe(
        name=f"node-{system}",
        suite=SUITES[system],
        packages=PACKAGES,
        files=[file for file in sorted(FILES.iterdir()) if file.name != "setup.sh"],
        setup=(FILES / "setup.sh").read_text(),
        config=["ENV container=docker", 'CMD ["/usr/local/sbin/lab-init"]'],
    )


def available(system: str) -> str:
    """Return the system, or Debian 12 when Ubuntu's archive does not answer; report that."""
    if system.startswith("ubuntu") and not rootfs.exists(recipe(system).tag) and not rootfs.ubuntu_answers():
        say(f"Ubuntu's archive does not answer: debian-12 replaces {system}")
        return "debian-12"
    return system
