"""Runs on the node, as root, by `python3 -I -`: what a machine is before we touch it, as one line of JSON. Changes nothing.

Called by preflight.look, which appends on_node_driver.py, roles/host/files/filesystems.py and a line that prints what all three find; here of
{paths: {path: file that says it is filled}, addresses: ["host:port"], ports, owner: file}.
Needs Python 3.10's standard library; what a bare machine lacks (docker, dkms, dmesg) is told as absent. No judgement here:
hardware.py and host.py have that.
"""

import concurrent.futures
import fcntl
import json
import pathlib
import platform
import re
import shutil
import socket
import struct
import subprocess
import time
from typing import Any

Facts = dict[str, Any]

REACH = 4.0  # seconds for one address
OTHERS = [
    "kubelet",
    "k3s",
    "k3s-agent",
    "rke2-agent",
    "microk8s.daemon-kubelite",
    "crio",
    "podman",
    "nomad",
    "slurmd",
    "lxd",
]
# The four locks of apt and dpkg; who holds one is told with its process.
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
NOTES = ("invalid ip discovery binary signature", "Fatal error during GPU init", "CPER")


def text(path: str | pathlib.Path) -> str:
    try:
        return pathlib.Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def out(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def space(paths: dict[str, str]) -> Facts:
    """Free bytes of the disk on which each path lies, and whether what is to lie there does already."""
    return {
        path: {**disk(path), "filled": bool(filled) and pathlib.Path(filled).exists()} for path, filled in paths.items()
    }


def image_places(engine: Facts) -> list[str]:
    """Where the engine keeps images; both places where none is there yet, which depends on its version."""
    if not engine["version"]:
        return ["/var/lib/docker", "/var/lib/containerd"]
    if "io.containerd.snapshotter" not in engine["storage"]:
        return [engine["root"]]
    root = re.search(r"""^root = ['"]([^'"]+)""", out("containerd", "config", "dump"), re.M)
    return [root.group(1) if root else "/var/lib/containerd"]


def reach(addresses: list[str]) -> dict[str, str]:
    """What stops a TCP connection to each "host:port"; "" where nothing does."""

    def one(address: str) -> str:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH).close()
        except socket.gaierror:
            return "the name is not known there"
        except OSError as error:
            return (
                f"no answer within {REACH:g} s"
                if isinstance(error, TimeoutError)
                else (error.strerror or str(error)).lower()
            )
        return ""

    with concurrent.futures.ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(one, addresses), strict=True))


def sources() -> list[str]:
    """The servers of apt's own sources, as "host:port"."""
    files = [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")]
    urls = [url for file in files for url in re.findall(r"(?m)^[^#\n]*?(https?)://([^/\s:]+)(?::(\d+))?", text(file))]
    return sorted({f"{host}:{port or {'http': 80, 'https': 443}[scheme]}" for scheme, host, port in urls})


def command_of(pid: int) -> str:
    words = text(f"/proc/{pid}/cmdline").split("\0")
    return " ".join(" ".join(words).split()) or text(f"/proc/{pid}/comm")


def unit_of(pid: int) -> str:
    for line in text(f"/proc/{pid}/cgroup").splitlines():
        units = re.findall(r"([^/]+\.(?:service|scope))", line)
        if units:
            return str(units[-1])
    return ""


def locks() -> list[Facts]:
    """Who holds a lock of apt or dpkg."""
    held = []
    for path in LOCKS:
        try:
            with pathlib.Path(path).open("rb") as file:
                asked = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
                kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except OSError:
            continue
        if kind != fcntl.F_UNLCK:
            held.append({"path": path, "pid": pid, "command": command_of(pid), "unit": unit_of(pid)})
    return held


def listeners(ports: list[int]) -> dict[int, Facts]:
    """Who listens on each of these ports: {port: {pid, command, unit}}; pid 0 where the process is not to be seen."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in text(table).splitlines()[1:]:
            words = line.split()
            port = int(words[1].rpartition(":")[2], 16)
            if words[3] == "0A" and port in ports:
                inodes[words[9]] = port
    found = {port: {"pid": 0, "command": "", "unit": ""} for port in inodes.values()}
    for link in pathlib.Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            inode = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        except OSError:
            continue
        if inode and inode.group(1) in inodes:
            pid = int(link.parts[2])
            port, command = inodes[inode.group(1)], command_of(pid)
            names = (
                out("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
                if "docker-proxy" in command
                else []
            )
            found[port] = {"pid": pid, "command": command, "unit": f"container {names[0]}" if names else unit_of(pid)}
    return found


def docker() -> Facts:
    form = "{{.ServerVersion}}|{{.DockerRootDir}}|{{.CgroupVersion}}|{{.DriverStatus}}"
    told = out("docker", "info", "--format", form).strip().split("|", 3)
    version, root, group, storage = told if len(told) == 4 else ("", "", "", "")
    program = shutil.which("dockerd") or next((one for one in ("/usr/sbin/dockerd",) if pathlib.Path(one).exists()), "")
    package = out("dpkg-query", "-S", program).partition(":")[0] if program else ""
    return {
        "there": bool(shutil.which("docker")),
        "version": version,
        "root": root,
        "cgroup": group,
        "storage": storage,
        "package": package,
        "ours": was_not_there(package),
    }


def was_not_there(package: str) -> bool:
    """Whether a package came with a run of ours: before the first one its packages were written down (playbooks/files/baseline.py)."""
    try:
        return package not in json.loads(text("/var/lib/fleet/before.json"))["packages"]
    except (ValueError, KeyError, TypeError):
        return False


def disk(path: str) -> Facts:
    """Free bytes and number of the disk on which a path lies, or would lie."""
    there = pathlib.Path(path)
    while not there.exists():
        there = there.parent
    return {"free": shutil.disk_usage(there).free, "device": there.stat().st_dev}


def others() -> list[str]:
    """Other owners of the host whose units run, and other container runtimes."""
    active = out("systemctl", "is-active", *OTHERS).split()
    return [name for name, state in zip(OTHERS, active, strict=False) if state == "active"]


def kernel_notes() -> list[str]:
    """Lines of the kernel's log that are known to alarm people."""
    return [line.strip()[-200:] for line in out("dmesg").splitlines() if any(note in line for note in NOTES)][-5:]


def host_facts(asked: Facts) -> Facts:
    """What the checks of the system around the hardware judge."""
    release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
    meminfo = re.search(r"MemTotal:\s+(\d+) kB", text("/proc/meminfo"))
    nvme = pathlib.Path("/sys/block").glob("nvme*")
    engine = docker()
    return {
        "system": f"{release.get('ID', '?')} {release.get('VERSION_ID', '?')}".replace('"', ""),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "time": time.time(),
        "lockdown": text("/sys/kernel/security/lockdown"),
        "cmdline": text("/proc/cmdline").split(),
        "memory": int(meminfo.group(1)) * 1024 if meminfo else 0,
        "nvme": sorted(disk.name for disk in nvme),
        "space": space(asked["paths"]),
        "reach": reach([*asked["addresses"], *(one for one in sources() if one not in asked["addresses"])]),
        "locks": locks(),
        "half": [
            line.split()[1]
            for line in out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n").splitlines()
            if line[1:2] in "UFHWt"
        ],
        "reboot": text("/run/reboot-required.pkgs").splitlines()
        if pathlib.Path("/run/reboot-required").exists()
        else None,
        "first_boot": pathlib.Path("/run/cloud-init").is_dir()
        and not pathlib.Path("/run/cloud-init/result.json").exists(),
        "others": others(),
        "ports": listeners(asked["ports"]),
        "docker": engine,
        "images": {path: disk(path) for path in image_places(engine)},
        "owner": text(asked["owner"]),
        "systemd": pathlib.Path("/run/systemd/system").is_dir(),
        "cgroup": 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "notes": kernel_notes(),
    }
