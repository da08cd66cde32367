"""COUNT SECONDS: the loaded and the built amdgpu driver, and the GPUs that it brought up; JSON out, nothing changed.

Waits up to SECONDS until COUNT GPUs are there. `loaded` and `built` are "VERSION SRCVERSION" of the module in the kernel and of the
one that the next boot would load. Called by tasks/run.yml through `python3 -c`.
"""

import json
import pathlib
import platform
import re
import subprocess
import sys
import time

MODULE = pathlib.Path("/sys/module/amdgpu")
NODES = pathlib.Path("/sys/class/kfd/kfd/topology/nodes")


def field(data: bytes, name: str) -> str:
    """One field of a module's .modinfo section, which is NUL-separated NAME=VALUE text in the file."""
    found = re.search(rb"(?:^|[\0\n])" + name.encode() + rb"=([^\0\n]+)", data)
    return found.group(1).decode() if found else ""


def built() -> str:
    """The module of the running kernel that lies on disk: by modinfo, or read from the file where modinfo cannot."""
    said = [
        subprocess.run(["/sbin/modinfo", "-F", name, "amdgpu"], capture_output=True, text=True).stdout.strip()
        for name in ("version", "srcversion")
    ]
    if not any(said):
        updates = pathlib.Path("/lib/modules", platform.release(), "updates")
        for file in sorted(updates.rglob("amdgpu.ko")):
            said = [field(file.read_bytes(), name) for name in ("version", "srcversion")]
    return " ".join(part for part in said if part)


def loaded() -> str:
    parts = [(MODULE / name).read_text().strip() for name in ("version", "srcversion") if (MODULE / name).exists()]
    return " ".join(parts) or ("without a version" if (MODULE / "initstate").exists() else "")


def gpus() -> list[str]:
    """Render nodes of the GPUs that the kernel's compute driver knows, where the device file is there too."""
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
seen = {"loaded": loaded(), "built": built(), "gpus": gpus(), "kfd": pathlib.Path("/dev/kfd").exists()}
print(json.dumps({**seen, "state": "running", "text": f"{len(seen['gpus'])} GPUs"}), flush=True)
time.sleep(0.2)  # Ansible may not read what a command said last that has ended by then (roles/work/files/work.py)
