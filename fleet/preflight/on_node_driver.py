"""Runs on the node after on_node_facts.py, in the same exec: GPUs, driver, signatures, and the packages that bring the driver. Changes nothing.

Sent by preflight.ask. Here of {packages: [of the driver], loaders: [unit], repositories: [url of AMD's packages], source: the roles' own
apt source, filesystems: [as roles/host/files/filesystems.py takes them], record: file}; `main` prints the facts of all three files. What a bare machine lacks (modinfo, mokutil, amd-smi) is
told as absent. No judgement here: hardware.py and host.py have that.
"""

import json
import pathlib
import platform
import re
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # on the node all files of the exec are one
    from fleet.preflight.on_node_facts import host_facts, out, text

    def filesystems(asked: "list[Facts]", record: str) -> "list[Facts]": ...


Facts = dict[str, Any]


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


def driver_facts(asked: Facts) -> Facts:
    """What the checks of hardware, kernel and driver judge."""
    checked = secure_boot()
    return {
        "secure_boot": checked,
        "gpus": gpus(),
        "bundles": bundles(),
        "topology": topology(),
        "nodes": sorted(file.name for file in pathlib.Path("/dev/dri").glob("renderD*")),
        "kfd": pathlib.Path("/dev/kfd").exists(),
        "driver": driver(asked["packages"]),
        "enrolled": enrolled() if checked else {"serials": [], "names": [], "dkms": False},
        "loader": loader(asked["loaders"]),
        "repositories": repositories(asked["repositories"], asked["source"]),
        "blacklists": blacklists(),
        "backups": [
            str(one)
            for one in sorted(pathlib.Path("/etc/modprobe.d").glob("*"))
            if re.search(r"~$|\.(bak|old|orig|save)$", one.name)
        ],
        "headers": headers(),
    }


def main(asked: Facts) -> None:
    disks = filesystems(asked["filesystems"], asked["record"])
    print(json.dumps({**host_facts(asked), **driver_facts(asked), "disks": disks}))
