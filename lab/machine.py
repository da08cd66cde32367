"""A lab node: a container that behaves like a bare machine, with systemd, sshd, apt and room for its own Docker daemon.

Owns the container, its two volumes, its host key. Needs a Docker daemon, the images of lab.build and a site (lab.site).
Called by the lab's plugins (lab/provider, lab/cloud) and by the tests. The stand-ins for firmware and GPUs are in lab/images/node/.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import build, keys, network, site
from lab.commands import LabError, docker, say
from lab.images import node

# Everything that a machine's init needs and no more: this machine may lack some of what --privileged asks for.
CAPABILITIES = [
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]
# A Docker daemon in a container needs real file systems at these paths; volumes are, and survive a restart.
VOLUMES = {"docker": "/var/lib/docker", "containerd": "/var/lib/containerd"}
NOTHING: Mapping[Path, str] = {}
# Each node's systemd and Docker daemon need several; a few nodes use up the kernel's default.
WATCHES, ENOUGH = Path("/proc/sys/fs/inotify/max_user_instances"), 1024


def create(
    lab: str,
    name: str,
    system: str,
    gpus: int,
    folder: Path,
    image: str = "",
    volumes: Mapping[str, str] = VOLUMES,
    files: bytes = b"",
) -> dict[str, Any]:
    """Create a node and start it, replacing one of the same name. Return {address, port, user, identity, host_key} before it has booted.

    It is a bare node of the system or, with `image`, a copy of a node with its own host key (for the benchmarks). `files` is a tar archive
    that is unpacked over it.
    """
    build.ensure([system])
    container, address = make(lab, name, image or node.recipe(node.available(system)).tag, gpus, folder, volumes)
    if files:
        docker("cp", "-", f"{container}:/", stdin=files)
    host_keys = folder / name
    host_key = keys.make(host_keys / "ssh_host_ed25519_key", container)
    docker("cp", f"{host_keys}/.", f"{container}:/etc/ssh/")
    docker("cp", f"{folder / 'id_ed25519.pub'}", f"{container}:/root/.ssh/authorized_keys")
    docker("start", container)
    identity = str(folder / "id_ed25519")
    return {"address": address, "port": 22, "user": "root", "identity": identity, "host_key": host_key}


def make(
    lab: str,
    name: str,
    image: str,
    gpus: int,
    folder: Path,
    volumes: Mapping[str, str] = VOLUMES,
    mounts: Mapping[Path, str] = NOTHING,
) -> tuple[str, str]:
    """Create a node's container with its volumes and without keys, replacing an old one. Return the container's name and the address.

    `mounts` are files and folders of this machine, which the node can read, and where.
    """
    net = network.find(lab)
    if net is None:
        raise LabError(f"make the node {name}: there is no lab {lab}\n  next:   make its site first")
    _watches()
    container = f"{lab}-{name}"
    site.remove_container(lab, container)
    address = network.free_address(net, folder, name)
    options = [f"--name={container}", f"--hostname={name}", f"--network={lab}", f"--ip={address}"]
    options += [f"--add-host={alias}:{net.site}" for alias in site.NAMES]
    options += [
        f"--label={network.label(lab)}",
        "--restart=always",
        "--stop-signal=SIGRTMIN+3",
        f"--env=LAB_GPUS={gpus}",
    ]
    options += [f"--cap-add={capability}" for capability in CAPABILITIES]
    options += [f"--security-opt={kind}=unconfined" for kind in ("seccomp", "apparmor", "systempaths")]
    options += ["--device-cgroup-rule=a *:* rwm", "--device=/dev/fuse", "--cgroupns=private", "--shm-size=1g"]
    options += ["--tmpfs=/run:exec,mode=755", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec,mode=1777"]
    options += [f"--volume={path}:{place}:ro" for path, place in mounts.items()]
    for volume, place in volumes.items():
        docker("volume", "create", f"--label={network.label(lab)}", f"{container}-{volume}")
        options.append(f"--volume={container}-{volume}:{place}")
    if net.sealed:
        options.append(f"--volume={_no_resolver(folder)}:/etc/resolv.conf:ro")
    docker("create", "--pull=never", *options, image)
    if net.sealed:
        _from_the_site(container)
    return container, address


def exists(lab: str, name: str) -> bool:
    """Whether the node's container exists."""
    return bool(site.containers(lab, f"name=^{lab}-{name}$"))


def remove(lab: str, name: str) -> None:
    """Remove a node and its volumes."""
    site.remove_container(lab, f"{lab}-{name}")


def _no_resolver(folder: Path) -> Path:
    """Return a resolv.conf with which every name outside /etc/hosts fails at once. Docker's own resolver would wait 20 s.

    At every start apt also looks up a service name of its mirror (RFC 2782).
    """
    file = folder / "resolv.conf"
    file.write_text("# Nothing listens there: a sealed lab has no resolver.\nnameserver 127.0.0.1\n")
    return file


def _from_the_site(container: str) -> None:
    """Let the node fetch the system's packages from the site, as a machine without internet access fetches them from a mirror."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources.list"
        docker("cp", f"{container}:/etc/apt/sources.list", str(sources))
        sources.write_text(re.sub(r"\b(https?)://", r"http://archive.lab.internal/\1/", sources.read_text()))
        docker("cp", str(sources), f"{container}:/etc/apt/sources.list")


def _watches() -> None:
    """Raise this machine's limit of inotify instances when it is too low for nodes, and report it."""
    if int(WATCHES.read_text()) < ENOUGH:
        try:
            WATCHES.write_text(f"{ENOUGH}\n")
        except OSError as error:
            raise LabError(
                f"{WATCHES}: {WATCHES.read_text().strip()}, and it cannot be raised ({error.strerror})"
                f"\n  wanted: {ENOUGH}\n  next:   sysctl -w fs.inotify.max_user_instances={ENOUGH}"
            ) from None
        say(f"raised fs.inotify.max_user_instances to {ENOUGH}, until the next boot of this machine")
