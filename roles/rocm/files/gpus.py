"""COUNT SECONDS [LOADER]: read the loaded and the built amdgpu driver, and its GPUs. JSON out; changes nothing.

Waits up to SECONDS for COUNT GPUs. `loaded` and `built` are "VERSION SRCVERSION" of the module in the kernel and of the one that DKMS
built for this kernel; `path` is the module that modprobe loads, which may be the distribution's; `of_package`: it is from the
installed amdgpu-dkms; `package` is the version of that. `loading`: the unit LOADER, which loads the driver after the boot, still runs. Called by tasks/state.yml and wait.yml through `python3 -c`.
"""

import json
import pathlib
import platform
import re
import subprocess
import sys
import time

MODULE = pathlib.Path("/sys/module/amdgpu")
KERNEL = pathlib.Path("/lib/modules", platform.release())
DKMS = "/updates/dkms/"
NODES = pathlib.Path("/sys/class/kfd/kfd/topology/nodes")


def out(*command: str) -> str:
    """Return what a command prints; "" if it does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""


def field(data: bytes, name: str) -> str:
    """Return one field of a module's .modinfo section, which is NUL-separated NAME=VALUE text in the file."""
    found = re.search(rb"(?:^|[\0\n])" + name.encode() + rb"=([^\0\n]+)", data)
    return found.group(1).decode() if found else ""


def module_path() -> str:
    """Return the module that modprobe loads: by modinfo, else by the order of the folders."""
    path = out("/sbin/modinfo", "-n", "amdgpu").strip()
    found = [file for folder in ("updates", "kernel") for file in sorted((KERNEL / folder).rglob("amdgpu.ko*"))]
    return path if path.startswith("/") else str(found[0]) if found else ""


def built(path: str) -> str:
    """Return the module that DKMS built for the running kernel; "" for the distribution's own."""
    if DKMS not in path:
        return ""
    said = [out("/sbin/modinfo", "-F", name, path).strip() for name in ("version", "srcversion")]
    if not any(said):
        data = pathlib.Path(path).read_bytes()
        said = [field(data, name) for name in ("version", "srcversion")]
    return " ".join(part for part in said if part)


def package() -> str:
    """Return the version of the installed amdgpu-dkms, or "" (another package may provide the driver)."""
    form = "${db:Status-Status} ${Version}"
    state, _, version = out("dpkg-query", "-W", "-f", form, "amdgpu-dkms").partition(" ")
    return version if state == "installed" else ""


def of_package(module: str, version: str) -> bool:
    """Return whether DKMS built a module from a package: 6.16.13 from 1:6.16.13.30300400-2341068."""
    words = module.split()
    return bool(words) and (not version or len(words) < 2 or version.rpartition(":")[2].startswith(f"{words[0]}."))


def loading(unit: str) -> bool:
    """Return whether a unit runs: a simple one is active while its program runs."""
    return out("systemctl", "is-active", unit).strip() in ("active", "activating")


def loaded() -> str:
    parts = [(MODULE / name).read_text().strip() for name in ("version", "srcversion") if (MODULE / name).exists()]
    return " ".join(parts) or ("without a version" if (MODULE / "initstate").exists() else "")


def gpus() -> list[str]:
    """Return render nodes of the GPUs of the kernel's compute driver that have a device file."""
    found = []
    for properties in NODES.glob("*/properties"):
        values = dict(line.split(maxsplit=1) for line in properties.read_text().splitlines() if " " in line)
        minor = int(values.get("drm_render_minor", "0"))
        if int(values.get("simd_count", "0")) > 0 and minor > 0 and pathlib.Path(f"/dev/dri/renderD{minor}").exists():
            found.append(minor)
    return [f"renderD{minor}" for minor in sorted(found)]


count, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while (len(gpus()) < count or not pathlib.Path("/dev/kfd").exists()) and time.monotonic() < end:
    time.sleep(0.2)
path = module_path()
seen = {
    "loaded": loaded(),
    "built": built(path),
    "path": path,
    "package": (version := package()),
    "of_package": of_package(built(path), version),
    "loading": any(loading(unit) for unit in sys.argv[3:] if unit),
    "gpus": gpus(),
    "kfd": pathlib.Path("/dev/kfd").exists(),
}
print(json.dumps({**seen, "state": "running", "text": f"{len(seen['gpus'])} GPUs"}), flush=True)
time.sleep(0.2)  # else Ansible may lose the last line: roles/long_task/files/long_task.py says why
