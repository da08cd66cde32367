"""Runs on the node as root: reads the facts of the system. Changes nothing.

The first part of the script of preflight.read_facts, before on_node_driver.py (which has `main`). Its arguments:
{paths: {path: file that exists when its content is complete}, addresses: ["host:port"], ports: [number], owner: file}.
Needs Python 3.10's standard library. Reports programs that a bare machine lacks (docker, dkms, dmesg) as absent. Evaluates nothing:
hardware.py and host.py do.
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
    *("kubelet", "k3s", "k3s-agent", "rke2-agent", "microk8s.daemon-kubelite", "crio", "podman"),
    *("nomad", "slurmd", "lxd"),
]
# The four locks of apt and dpkg.
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
NOTES = ("invalid ip discovery binary signature", "Fatal error during GPU init", "CPER")


def read_text(path: str | pathlib.Path) -> str:
    try:
        return pathlib.Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def space(paths: dict[str, str]) -> Facts:
    """Return by path the free bytes and device number of its disk, and whether its content is complete (`filled`)."""
    return {
        path: {**disk(path), "filled": bool(filled) and pathlib.Path(filled).exists()} for path, filled in paths.items()
    }


def image_folders(daemon: Facts) -> list[str]:
    """Return the Docker daemon's folder of images. Without a daemon both possible ones: its version decides."""
    if not daemon["version"]:
        return ["/var/lib/docker", "/var/lib/containerd"]
    if "io.containerd.snapshotter" not in daemon["storage"]:
        return [daemon["root"]]
    root = re.search(r"""^root = ['"]([^'"]+)""", output("containerd", "config", "dump"), re.M)
    return [root.group(1) if root else "/var/lib/containerd"]


def reach(addresses: list[str]) -> dict[str, str]:
    """Return by "host:port" the failure of a TCP connection; "" for success."""

    def failure(address: str) -> str:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH).close()
        except socket.gaierror:
            return "the node cannot resolve the name"
        except TimeoutError:
            return f"no answer within {REACH:g} s"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return ""

    with concurrent.futures.ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(failure, addresses), strict=True))


def sources() -> list[str]:
    """Return the "host:port" of every server in apt's sources."""
    files = [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")]
    urls = [
        url
        for file in files
        for url in re.findall(r"(?m)^[^#\n]*?(https?)://(\[[^\]\s]+\]|[^/\s:]+)(?::(\d+))?", read_text(file))
    ]
    return sorted({f"{host}:{port or {'http': 80, 'https': 443}[scheme]}" for scheme, host, port in urls})


def command_of(pid: int) -> str:
    words = read_text(f"/proc/{pid}/cmdline").split("\0")
    return " ".join(" ".join(words).split()) or read_text(f"/proc/{pid}/comm")


def unit_of(pid: int) -> str:
    for line in read_text(f"/proc/{pid}/cgroup").splitlines():
        units = re.findall(r"([^/]+\.(?:service|scope))", line)
        if units:
            return str(units[-1])
    return ""


def locks() -> list[Facts]:
    """Return each held lock of apt and dpkg: {path, pid, command, unit}."""
    held_locks = []
    for path in LOCKS:
        try:
            with pathlib.Path(path).open("rb") as file:
                query = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
                kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, query))
        except OSError:
            continue
        if kind != fcntl.F_UNLCK:
            held_locks.append({"path": path, "pid": pid, "command": command_of(pid), "unit": unit_of(pid)})
    return held_locks


def listeners(ports: list[int]) -> dict[int, Facts]:
    """Return the process that listens on each of these ports: {port: {pid, command, unit}}; pid 0 when it is not visible."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read_text(table).splitlines()[1:]:
            words = line.split()
            port = int(words[1].rpartition(":")[2], 16)
            if words[3] == "0A" and port in ports:
                inodes[words[9]] = port
    processes = {port: {"pid": 0, "command": "", "unit": ""} for port in inodes.values()}
    for link in pathlib.Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            inode = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        except OSError:
            continue
        if inode and inode.group(1) in inodes:
            pid = int(link.parts[2])
            port, command = inodes[inode.group(1)], command_of(pid)
            unit = unit_of(pid)
            if "docker-proxy" in command:
                names = output("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").split()
                unit = f"container {names[0]}" if names else unit
            processes[port] = {"pid": pid, "command": command, "unit": unit}
    return processes


def docker() -> Facts:
    form = "{{.ServerVersion}}|{{.DockerRootDir}}|{{.CgroupVersion}}|{{.DriverStatus}}"
    fields = output("docker", "info", "--format", form).strip().split("|", 3)
    version, root, group, storage = fields if len(fields) == 4 else ("", "", "", "")
    program = shutil.which("dockerd") or ("/usr/sbin/dockerd" if pathlib.Path("/usr/sbin/dockerd").exists() else "")
    package = output("dpkg-query", "-S", program).partition(":")[0] if program else ""
    return {
        "there": bool(shutil.which("docker")),
        "version": version,
        "root": root,
        "cgroup": group,
        "storage": storage,
        "package": package,
        "ours": installed_by_a_run(package),
    }


def installed_by_a_run(package: str) -> bool:
    """Whether a run installed a package: it is missing in the baseline from before the first run (playbooks/files/baseline.py)."""
    try:
        return package not in json.loads(read_text("/var/lib/fleet/before.json"))["packages"]
    except (ValueError, KeyError, TypeError):
        return False


def disk(path: str) -> Facts:
    """Return the free bytes and the device number of the disk of a path, which need not exist."""
    folder = pathlib.Path(path)
    while not folder.exists():
        folder = folder.parent
    return {"free": shutil.disk_usage(folder).free, "device": folder.stat().st_dev}


def boot_configuration() -> Facts:
    """Return whether the host waits for a run to confirm its boot configuration, and when and why it last went back to an earlier one."""
    try:
        record = json.loads(read_text("/var/lib/fleet/boot-reverted.json"))
        reverted = {key: record[key] for key in ("when", "words", "timeout", "failed")}
    except (ValueError, KeyError, TypeError):
        reverted = None
    return {"armed": pathlib.Path("/var/lib/fleet/boot-revert/armed.json").exists(), "reverted": reverted}


def others() -> list[str]:
    """Return the orchestrators and other container runtimes whose units run."""
    active = output("systemctl", "is-active", *OTHERS).split()
    return [name for name, state in zip(OTHERS, active, strict=False) if state == "active"]


def kernel_notes() -> list[str]:
    """Return the last five lines of the kernel's log that match NOTES."""
    return [line.strip()[-200:] for line in output("dmesg").splitlines() if any(note in line for note in NOTES)][-5:]


def host_facts(arguments: Facts) -> Facts:
    """Return the facts of the system."""
    release = dict(line.split("=", 1) for line in read_text("/etc/os-release").splitlines() if "=" in line)
    meminfo = re.search(r"MemTotal:\s+(\d+) kB", read_text("/proc/meminfo"))
    nvme = pathlib.Path("/sys/block").glob("nvme*")
    daemon = docker()
    return {
        "system": f"{release.get('ID', '?')} {release.get('VERSION_ID', '?')}".replace('"', ""),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "time": time.time(),
        "lockdown": read_text("/sys/kernel/security/lockdown"),
        "cmdline": read_text("/proc/cmdline").split(),
        "memory": int(meminfo.group(1)) * 1024 if meminfo else 0,
        "nvme": sorted(disk.name for disk in nvme),
        "space": space(arguments["paths"]),
        "reach": reach(list(dict.fromkeys([*arguments["addresses"], *sources()]))),
        "locks": locks(),
        "half": [
            line.split()[1]
            for line in output("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n").splitlines()
            if line[1:2] in "UFHWt"
        ],
        "reboot": read_text("/run/reboot-required.pkgs").splitlines()
        if pathlib.Path("/run/reboot-required").exists()
        else None,
        "first_boot": pathlib.Path("/run/cloud-init").is_dir()
        and not pathlib.Path("/run/cloud-init/result.json").exists(),
        "boot": boot_configuration(),
        "others": others(),
        "ports": listeners(arguments["ports"]),
        "docker": daemon,
        "images": {path: disk(path) for path in image_folders(daemon)},
        "owner": read_text(arguments["owner"]),
        "systemd": pathlib.Path("/run/systemd/system").is_dir(),
        "cgroup": 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "notes": kernel_notes(),
    }
