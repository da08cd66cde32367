"""Runs on the node, as root, by `python3 -I -`: what a machine is before we touch it, as one line of JSON. Changes nothing.

Called by preflight.look, which appends main({paths: {path: file that says it is filled}, addresses: ["host:port"], ports, owner: file,
repositories: [url of AMD's packages], source: the roles' own apt source, loaders: [unit], packages: [of the driver], filesystems}, disks),
where `disks` is the function of roles/host/files/filesystems.py, which stands behind this.
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
from collections.abc import Callable
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


def amd_smi() -> str:
    """The program amd-smi, which AMD's packages do not put on PATH."""
    found = [str(file) for file in sorted(pathlib.Path("/opt").glob("rocm*/bin/amd-smi"))]
    return shutil.which("amd-smi") or (found[-1] if found else "amd-smi")


def bundles() -> list[str]:
    """The firmware bundle of each GPU, as amd-smi tells it; [] where it tells none: without the driver, or before it could."""
    try:
        told = json.loads(out(amd_smi(), "firmware", "--json"))
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


def module_path() -> str:
    """The amdgpu that modprobe takes for this kernel: by modinfo, or by the order of the folders where modinfo cannot tell."""
    path = out("modinfo", "-n", "amdgpu").strip()
    kernel = pathlib.Path("/lib/modules", platform.release())
    found = [file for folder in ("updates", "kernel") for file in sorted((kernel / folder).rglob("amdgpu.ko*"))]
    return path if path.startswith("/") else str(found[0]) if found else ""


def driver(packages: list[str]) -> Facts:
    """The loaded amdgpu and the one on disk, with its signature; versions of the packages that bring it."""
    loaded = pathlib.Path("/sys/module/amdgpu/initstate").exists()
    versions = {
        name: out("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).split() for name in packages
    }
    return {
        "loaded": text("/sys/module/amdgpu/version") or ("without a version" if loaded else ""),
        "loaded_source": text("/sys/module/amdgpu/srcversion"),
        "built_source": out("modinfo", "-F", "srcversion", "amdgpu").strip(),
        "path": module_path(),
        "packages": {name: words[1] for name, words in versions.items() if words[:1] == ["installed"]},
        "dkms": [line for line in out("dkms", "status").splitlines() if "amdgpu" in line],
        "signer": out("modinfo", "-F", "signer", "amdgpu").strip(),
        "signature": re.sub("[^0-9A-F]", "", out("modinfo", "-F", "sig_key", "amdgpu").upper()),
    }


def enrolled() -> Facts:
    """Keys by which the kernel lets a module in: {serials, names} of the firmware's list and the kernel's keyrings, and whether DKMS's own is one."""
    listed = out("mokutil", "--list-enrolled")
    serials = re.findall(r"Serial Number:\s*(?:\d+ \(0x([0-9a-f]+)\)|([0-9a-f]{2}(?::[0-9a-f]{2})*))", listed, re.I)
    names = re.findall(r"Subject:.*?CN\s*=\s*([^,/\n]+)", listed)
    keys = re.findall(r"asymmetri (.+?):? ?[0-9a-f]*: X509", text("/proc/keys"))
    files = [
        file for file in ("/var/lib/shim-signed/mok/MOK.der", "/var/lib/dkms/mok.pub") if pathlib.Path(file).exists()
    ]
    return {
        "serials": sorted({"".join(one).replace(":", "").upper() for one in serials}),
        "names": sorted({name.strip() for name in (*names, *keys)}),
        "dkms": any("is already enrolled" in out("mokutil", "--test-key", file) for file in files),
    }


def loader(units: list[str]) -> Facts:
    """A vendor's unit that loads the driver after the boot, and whether it is still at work; {} without one."""
    for unit in units:
        if out("systemctl", "is-enabled", unit).strip() == "enabled":
            return {"unit": unit, "at_work": out("systemctl", "is-active", unit).strip() in ("active", "activating")}
    return {}


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


def repositories(urls: list[str], own: str) -> list[Facts]:
    """Sources of AMD's packages that others configured: {file, url, key, same: whether the plan has that URL}."""
    wanted = [url.rstrip("/") for url in urls]
    amd = re.compile(r"//repo\.radeon\.com/|/(rocm|amdgpu|graphics)/(apt/)?[0-9][^/]*(/|$)")
    folder = pathlib.Path("/etc/apt/sources.list.d")
    found = []
    for file in [
        pathlib.Path("/etc/apt/sources.list"),
        *sorted(folder.glob("*.list")),
        *sorted(folder.glob("*.sources")),
    ]:
        lines = [] if str(file) == own else text(file).splitlines()
        for line in lines:
            key = re.search(r"signed-by[=:]\s*([^]\s]+)", " ".join(lines) if file.suffix == ".sources" else line, re.I)
            for url in re.findall(r"https?://\S+", line) if re.match(r"\s*(deb\s|URIs:)", line) else ():
                plain = url.rstrip("/")
                if plain in wanted or amd.search(plain):
                    one = {"file": str(file), "url": plain, "key": key.group(1) if key else "", "same": plain in wanted}
                    found.append(one)
    return found


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
    """The packages that the driver is built against: installed, installable, pinned (a preference forbids them), or not there.

    With those of the running kernel the metapackages that bring those of each later one.
    """
    listed = out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", "linux-image-*", "linux-headers-*")
    here = {line.split()[1] for line in listed.splitlines() if line.startswith("ii")}
    held = set(out("apt-mark", "showhold").split())
    images = [name for name in sorted(here - held) if re.match(r"linux-image-(?!\d|unsigned-|extra-|.*-dbg)", name)]
    metas = [name.replace("image", "headers", 1) for name in images]
    found = {}
    for name in (f"linux-headers-{platform.release()}", f"linux-modules-extra-{platform.release()}", *metas):
        installed = "install ok installed" in out("dpkg-query", "-W", "-f", "${Status}", name)
        policy = "" if installed else out("apt-cache", "policy", name)
        candidate = bool(policy) and "Candidate: (none)" not in policy
        pinned = not candidate and re.search(r"^     \S+ -\d+$", policy, re.M)
        found[name] = "installed" if installed else "installable" if candidate else "pinned" if pinned else "not there"
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
    """Whether a package came with a run of ours: before the first one its packages were written down (playbooks/files/before.py)."""
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


def main(asked: Facts, disks: Callable[[list[dict[str, str]], str], list[Facts]]) -> None:
    release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
    meminfo = re.search(r"MemTotal:\s+(\d+) kB", text("/proc/meminfo"))
    nvme = pathlib.Path("/sys/block").glob("nvme*")
    engine = docker()
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
        "driver": driver(asked.get("packages", [])),
        "enrolled": enrolled() if secure_boot() else {"serials": [], "names": [], "dkms": False},
        "loader": loader(asked.get("loaders", [])),
        "repositories": repositories(asked.get("repositories", []), asked.get("source", "")),
        "blacklists": blacklists(),
        "backups": [
            str(one)
            for one in sorted(pathlib.Path("/etc/modprobe.d").glob("*"))
            if re.search(r"~$|\.(bak|old|orig|save)$", one.name)
        ],
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
        "headers": headers(),
        "first_boot": pathlib.Path("/run/cloud-init").is_dir()
        and not pathlib.Path("/run/cloud-init/result.json").exists(),
        "others": others(),
        "ports": listeners(asked["ports"]),
        "disks": disks(asked["filesystems"], "/var/lib/fleet/filesystems.json"),
        "docker": engine,
        "images": {path: disk(path) for path in image_places(engine)},
        "owner": text(asked["owner"]),
        "systemd": pathlib.Path("/run/systemd/system").is_dir(),
        "cgroup": 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "notes": kernel_notes(),
    }
    print(json.dumps(facts))
