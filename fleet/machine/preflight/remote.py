"""Runs on the node, as root, by `python3 -I -`: what a machine is before we touch it, as one line of JSON. Changes nothing.

Called by preflight.look, which appends main({paths: {path: file that says it is filled}, addresses: ["host:port"], ports, owner: file}).
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


def secure_boot() -> bool | None:
    """Whether the firmware checks signatures: None on a machine without EFI variables."""
    for file in pathlib.Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"):
        try:
            return file.read_bytes()[4:5] == b"\x01"
        except OSError:
            return None
    return None


def gpus() -> list[Facts]:
    """AMD's processing accelerators (class 12) and displays (class 03), with link, driver and memory."""
    found = []
    for device in sorted(pathlib.Path("/sys/bus/pci/devices").glob("*")):
        if text(device / "vendor") != "0x1002" or text(device / "class")[:4] not in ("0x12", "0x03"):
            continue
        bound = device / "driver"
        found.append(
            {
                "address": device.name,
                "device": text(device / "device"),
                "driver": bound.readlink().name if bound.is_symlink() else "",
                "speed": text(device / "current_link_speed"),
                "width": text(device / "current_link_width"),
                "vram": int(text(device / "mem_info_vram_total") or 0),
                "vbios": text(device / "vbios_version"),
                "compute": text(device / "current_compute_partition"),
                "memory": text(device / "current_memory_partition"),
            }
        )
    return found


def bundles() -> list[str]:
    """The firmware bundle of each GPU, as amd-smi tells it; [] where it tells none: without the driver, or before it could."""
    try:
        told = json.loads(out("amd-smi", "firmware", "--json"))
    except ValueError:
        return []
    entries = [
        entry for gpu in (told.get("gpu_data", []) if isinstance(told, dict) else told) for entry in gpu["fw_list"]
    ]
    return [entry["fw_version"] for entry in entries if "PLDM_BUNDLE" in entry.values()]


def topology() -> list[int]:
    """The gfx version of every GPU that KFD has."""
    nodes = pathlib.Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties")
    versions = [re.search(r"gfx_target_version (\d+)", text(file)) for file in nodes]
    return [int(one.group(1)) for one in versions if one and one.group(1) != "0"]


def driver() -> Facts:
    built = out("modinfo", "-F", "srcversion", "amdgpu").strip()
    return {
        "loaded": text("/sys/module/amdgpu/version"),
        "loaded_source": text("/sys/module/amdgpu/srcversion"),
        "built_source": built,
        "dkms": [line for line in out("dkms", "status").splitlines() if "amdgpu" in line],
        "signed": bool(out("modinfo", "-F", "signer", "amdgpu").strip()),
    }


def blacklists() -> list[str]:
    pattern = re.compile(r"^\s*(blacklist\s+amdgpu\b|install\s+amdgpu\s+/bin/(true|false))", re.M)
    files = [
        file
        for folder in ("/etc/modprobe.d", "/lib/modprobe.d")
        for file in sorted(pathlib.Path(folder).glob("*.conf"))
    ]
    found = [str(file) for file in files if pattern.search(text(file))]
    return found + (
        ["the kernel command line"] if re.search(r"modprobe\.blacklist=\S*\bamdgpu\b", text("/proc/cmdline")) else []
    )


def space(paths: dict[str, str]) -> Facts:
    """Free and whole bytes of the disk on which each path lies, or would lie."""
    found = {}
    for path, filled in paths.items():
        there = pathlib.Path(path)
        while not there.exists():
            there = there.parent
        disk = shutil.disk_usage(there)
        found[path] = {
            "free": disk.free,
            "device": there.stat().st_dev,
            "filled": bool(filled) and pathlib.Path(filled).exists(),
        }
    return found


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


def headers() -> dict[str, str]:
    """The packages that the driver is built against, and whether each is installed or could be."""
    found = {}
    for name in (f"linux-headers-{platform.release()}", f"linux-modules-extra-{platform.release()}"):
        installed = "install ok installed" in out("dpkg-query", "-W", "-f", "${Status}", name)
        policy = "" if installed else out("apt-cache", "policy", name)
        candidate = bool(policy) and "Candidate: (none)" not in policy
        found[name] = "installed" if installed else "installable" if candidate else "not there"
    return found


def docker() -> Facts:
    told = (
        out("docker", "info", "--format", "{{.ServerVersion}}|{{.DockerRootDir}}|{{.CgroupVersion}}").strip().split("|")
    )
    version, root, group = told if len(told) == 3 else ("", "", "")
    return {"there": bool(shutil.which("docker")), "version": version, "root": root, "cgroup": group}


def others() -> list[str]:
    """Other owners of the host whose units run, and other container runtimes."""
    active = out("systemctl", "is-active", *OTHERS).split()
    return [name for name, state in zip(OTHERS, active, strict=False) if state == "active"]


def kernel_notes() -> list[str]:
    """Lines of the kernel's log that are known to alarm people."""
    return [line.strip()[-200:] for line in out("dmesg").splitlines() if any(note in line for note in NOTES)][-5:]


def main(asked: Facts) -> None:
    release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
    meminfo = re.search(r"MemTotal:\s+(\d+) kB", text("/proc/meminfo"))
    disks = pathlib.Path("/sys/block").glob("nvme*")
    facts = {
        "system": f"{release.get('ID', '?')} {release.get('VERSION_ID', '?')}".replace('"', ""),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "time": time.time(),
        "secure_boot": secure_boot(),
        "lockdown": text("/sys/kernel/security/lockdown"),
        "cmdline": text("/proc/cmdline").split(),
        "gpus": gpus(),
        "bundles": bundles(),
        "topology": topology(),
        "nodes": sorted(file.name for file in pathlib.Path("/dev/dri").glob("renderD*")),
        "kfd": pathlib.Path("/dev/kfd").exists(),
        "driver": driver(),
        "blacklists": blacklists(),
        "backups": [
            str(one)
            for one in sorted(pathlib.Path("/etc/modprobe.d").glob("*"))
            if re.search(r"~$|\.(bak|old|orig|save)$", one.name)
        ],
        "memory": int(meminfo.group(1)) * 1024 if meminfo else 0,
        "nvme": sorted(disk.name for disk in disks),
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
        "headers": headers(),
        "others": others(),
        "ports": listeners(asked["ports"]),
        "docker": docker(),
        "owner": text(asked["owner"]),
        "systemd": pathlib.Path("/run/systemd/system").is_dir(),
        "cgroup": 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "notes": kernel_notes(),
    }
    print(json.dumps(facts))
