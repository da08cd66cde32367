"""Runs on the node after on_node_facts.py, in the same script: reads the facts of GPUs, driver, signatures and packages. Changes nothing.

Part of the script of preflight.read_facts. Its arguments: {packages: [of the driver], loaders: [unit], repositories: [URL of AMD's
packages], source: the roles' own apt source, filesystems: [as in roles/host/files/filesystems.py], record: file}. `main` prints the
facts of all three files as one line of JSON. Reports programs that a bare machine lacks (modinfo, mokutil, amd-smi) as absent.
Evaluates nothing: hardware.py and host.py do.
"""

import json
import pathlib
import platform
import re
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # on the node all files are one script
    from fleet.preflight.on_node_facts import host_facts, output, read_text

    def filesystems(entries: "list[Facts]", record: str) -> "list[Facts]": ...


Facts = dict[str, Any]


def secure_boot() -> bool | None:
    """Return whether the firmware checks signatures; None on a machine without EFI variables."""
    for file in pathlib.Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"):
        try:
            return file.read_bytes()[4:5] == b"\x01"
        except OSError:
            return None
    return None


def gpus() -> list[Facts]:
    """Return AMD's processing accelerators (class 12) and displays (class 03), with link, driver and memory."""
    devices = []
    for device in sorted(pathlib.Path("/sys/bus/pci/devices").glob("*")):
        if read_text(device / "vendor") != "0x1002" or read_text(device / "class")[:4] not in ("0x12", "0x03"):
            continue
        bound = device / "driver"
        devices.append(
            {
                "address": device.name,
                "device": read_text(device / "device"),
                "driver": bound.readlink().name if bound.is_symlink() else "",
                "speed": read_text(device / "current_link_speed"),
                "width": read_text(device / "current_link_width"),
                "vram": int(read_text(device / "mem_info_vram_total") or 0),
                "vbios": read_text(device / "vbios_version"),
                "compute": read_text(device / "current_compute_partition"),
                "memory": read_text(device / "current_memory_partition"),
            }
        )
    return devices


def amd_smi() -> str:
    """Return the path of amd-smi, which AMD's packages do not put on PATH."""
    files = [str(file) for file in sorted(pathlib.Path("/opt").glob("rocm*/bin/amd-smi"))]
    return shutil.which("amd-smi") or (files[-1] if files else "amd-smi")


def bundles() -> list[str]:
    """Return the firmware bundle of each GPU from amd-smi; [] when it reports none: without the driver, or in an old version."""
    try:
        listing = json.loads(output(amd_smi(), "firmware", "--json"))
    except ValueError:
        return []
    listed_gpus = listing.get("gpu_data", []) if isinstance(listing, dict) else listing
    entries = [entry for gpu in listed_gpus for entry in gpu["fw_list"]]
    return [entry["fw_version"] for entry in entries if "PLDM_BUNDLE" in entry.values()]


def topology() -> list[int]:
    """Return the gfx version of every GPU in KFD's topology."""
    nodes = pathlib.Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties")
    versions = [re.search(r"gfx_target_version (\d+)", read_text(file)) for file in nodes]
    return [int(one.group(1)) for one in versions if one and one.group(1) != "0"]


def module_path() -> str:
    """Return the file of amdgpu that modprobe loads for this kernel: from modinfo, or else by the order of the folders."""
    path = output("modinfo", "-n", "amdgpu").strip()
    kernel = pathlib.Path("/lib/modules", platform.release())
    files = [file for folder in ("updates", "kernel") for file in sorted((kernel / folder).rglob("amdgpu.ko*"))]
    return path if path.startswith("/") else str(files[0]) if files else ""


def driver(packages: list[str]) -> Facts:
    """Return the loaded amdgpu, the one on disk with its signature, and the versions of its packages."""
    loaded = pathlib.Path("/sys/module/amdgpu/initstate").exists()
    versions = {
        name: output("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).split() for name in packages
    }
    return {
        "loaded": read_text("/sys/module/amdgpu/version") or ("without a version" if loaded else ""),
        "loaded_source": read_text("/sys/module/amdgpu/srcversion"),
        "built_source": output("modinfo", "-F", "srcversion", "amdgpu").strip(),
        "path": module_path(),
        "packages": {name: words[1] for name, words in versions.items() if words[:1] == ["installed"]},
        "dkms": [line for line in output("dkms", "status").splitlines() if "amdgpu" in line],
        "signer": output("modinfo", "-F", "signer", "amdgpu").strip(),
        "signature": re.sub("[^0-9A-F]", "", output("modinfo", "-F", "sig_key", "amdgpu").upper()),
    }


def enrolled() -> Facts:
    """Return the keys whose modules the kernel accepts: {serials, names} of the firmware and the kernel's keyrings; `dkms`: DKMS's is enrolled."""
    listing = output("mokutil", "--list-enrolled")
    serials = re.findall(r"Serial Number:\s*(?:\d+ \(0x([0-9a-f]+)\)|([0-9a-f]{2}(?::[0-9a-f]{2})*))", listing, re.I)
    names = re.findall(r"Subject:.*?CN\s*=\s*([^,/\n]+)", listing)
    keys = re.findall(r"asymmetri (.+?):? ?[0-9a-f]*: X509", read_text("/proc/keys"))
    files = [
        file for file in ("/var/lib/shim-signed/mok/MOK.der", "/var/lib/dkms/mok.pub") if pathlib.Path(file).exists()
    ]
    return {
        "serials": sorted({"".join(parts).replace(":", "").upper() for parts in serials}),
        "names": sorted({name.strip() for name in (*names, *keys)}),
        "dkms": any("is already enrolled" in output("mokutil", "--test-key", file) for file in files),
    }


def loader(units: list[str]) -> Facts:
    """Return a vendor's unit that loads the driver after the boot, and whether it still runs; {} without one."""
    for unit in units:
        if output("systemctl", "is-enabled", unit).strip() == "enabled":
            return {"unit": unit, "at_work": output("systemctl", "is-active", unit).strip() in ("active", "activating")}
    return {}


def blacklists() -> list[str]:
    pattern = re.compile(r"^\s*(blacklist\s+amdgpu\b|install\s+amdgpu\s+/bin/(true|false))", re.M)
    files = [
        file
        for folder in ("/etc/modprobe.d", "/lib/modprobe.d")
        for file in sorted(pathlib.Path(folder).glob("*.conf"))
    ]
    return [str(file) for file in files if pattern.search(read_text(file))] + (
        ["the kernel command line"]
        if re.search(r"modprobe\.blacklist=\S*\bamdgpu\b", read_text("/proc/cmdline"))
        else []
    )


def repositories(urls: list[str], role_file: str) -> list[Facts]:
    """Return the sources of AMD's packages in other files than the role's: {file, url, key, same: whether the stack has that URL}."""
    stack_urls = [url.rstrip("/") for url in urls]
    amd = re.compile(r"//repo\.radeon\.com/|/(rocm|amdgpu|graphics)/(apt/)?[0-9][^/]*(/|$)")
    folder = pathlib.Path("/etc/apt/sources.list.d")
    entries = []
    for file in [
        pathlib.Path("/etc/apt/sources.list"),
        *sorted(folder.glob("*.list")),
        *sorted(folder.glob("*.sources")),
    ]:
        lines = [] if str(file) == role_file else read_text(file).splitlines()
        for line in lines:
            key = re.search(r"signed-by[=:]\s*([^]\s]+)", " ".join(lines) if file.suffix == ".sources" else line, re.I)
            for url in re.findall(r"https?://\S+", line) if re.match(r"\s*(deb\s|URIs:)", line) else ():
                plain = url.rstrip("/")
                if plain in stack_urls or amd.search(plain):
                    key_file = key.group(1) if key else ""
                    entries.append({"file": str(file), "url": plain, "key": key_file, "same": plain in stack_urls})
    return entries


def headers() -> dict[str, str]:
    """Return the state of each package that the driver's build needs: installed, installable, pinned (a preference forbids it), not there.

    These are the packages of the running kernel, and the metapackages for later kernels.
    """
    listing = output("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", "linux-image-*", "linux-headers-*")
    packages = {line.split()[1] for line in listing.splitlines() if line.startswith("ii")}
    packages -= set(output("apt-mark", "showhold").split())
    images = [name for name in sorted(packages) if re.match(r"linux-image-(?!\d|unsigned-|extra-|.*-dbg)", name)]
    metas = [name.replace("image", "headers", 1) for name in images]
    states = {}
    for name in (f"linux-headers-{platform.release()}", f"linux-modules-extra-{platform.release()}", *metas):
        installed = "install ok installed" in output("dpkg-query", "-W", "-f", "${Status}", name)
        policy = "" if installed else output("apt-cache", "policy", name)
        candidate = bool(policy) and "Candidate: (none)" not in policy
        pinned = not candidate and re.search(r"^     \S+ -\d+$", policy, re.M)
        states[name] = "installed" if installed else "installable" if candidate else "pinned" if pinned else "not there"
    return states


def driver_facts(arguments: Facts) -> Facts:
    """Return the facts of hardware, kernel and driver."""
    signatures_checked = secure_boot()
    return {
        "secure_boot": signatures_checked,
        "gpus": gpus(),
        "bundles": bundles(),
        "topology": topology(),
        "nodes": sorted(file.name for file in pathlib.Path("/dev/dri").glob("renderD*")),
        "kfd": pathlib.Path("/dev/kfd").exists(),
        "driver": driver(arguments["packages"]),
        "enrolled": enrolled() if signatures_checked else {"serials": [], "names": [], "dkms": False},
        "loader": loader(arguments["loaders"]),
        "repositories": repositories(arguments["repositories"], arguments["source"]),
        "blacklists": blacklists(),
        "backups": [
            str(file)
            for file in sorted(pathlib.Path("/etc/modprobe.d").glob("*"))
            if re.search(r"~$|\.(bak|old|orig|save)$", file.name)
        ],
        "headers": headers(),
    }


def main(arguments: Facts) -> None:
    disks = filesystems(arguments["filesystems"], arguments["record"])
    print(json.dumps({**host_facts(arguments), **driver_facts(arguments), "disks": disks}))
