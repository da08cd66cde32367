"""Read everything that the role host needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {packages: [str], foreign: [unit], sysctls: [name], marker, grub_file, armed, reverted: path}. Needs python3 and dpkg. Called by tasks/preflight.yml through `python3 -c`.
"""

import json
import pathlib
import platform
import subprocess
import sys
import time


def text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def words(line: str) -> list[str]:
    """Return kernel arguments, with each option of each `pci=` as a separate word."""
    found = []
    for word in line.split():
        found += [f"pci={option}" for option in word[4:].split(",")] if word.startswith("pci=") else [word]
    return found


def rendered() -> str:
    """Return the first `linux` line of the GRUB configuration, which the next boot reads."""
    for line in text("/boot/grub/grub.cfg").splitlines():
        if line.split()[:1] in (["linux"], ["linuxefi"]):
            return line
    return ""


def stored(path: str) -> dict:
    """Return the JSON of a file of boot_revert.py; {} for none."""
    try:
        value = json.loads(text(path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


query = json.load(sys.stdin)
armed, reverted = stored(query["armed"]), stored(query["reverted"])
release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
packages = [line.split() for line in out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n").splitlines()]
installed = {name.split(":")[0] for status, name in packages if status.startswith("ii")}
# Unpacked, half configured, half installed, or waiting for a trigger; a leftover journal means that dpkg was interrupted.
half = [name for status, name in packages if status[1:2] in ("U", "F", "H", "W", "t")]
journal = any(file.name.isdigit() for file in pathlib.Path("/var/lib/dpkg/updates").glob("*"))
missing = [name for name in query["packages"] if name not in installed]
unknown = [name for name in missing if "Candidate: (none)" in (seen := out("apt-cache", "policy", name)) or not seen]
print(
    json.dumps(
        {
            "system": f"{release.get('ID', '?')}-{release.get('VERSION_ID', '?')}".replace('"', ""),
            "arch": platform.machine(),
            "kernel": platform.release(),
            "python": list(sys.version_info[:3]),
            "intel": "GenuineIntel" in text("/proc/cpuinfo")[:4096],
            "numa_switch": pathlib.Path("/proc/sys/kernel/numa_balancing").exists(),
            "running_words": words(text("/proc/cmdline")),
            "rendered_words": words(rendered()),
            "grub": pathlib.Path("/usr/sbin/update-grub").exists(),
            "grub_folder": pathlib.Path("/etc/default/grub.d").is_dir(),
            # cloud-init's first boot, which also installs packages.
            "first_boot": pathlib.Path("/run/cloud-init").is_dir()
            and not pathlib.Path("/run/cloud-init/result.json").exists(),
            "attempted": pathlib.Path(query["marker"]).exists(),
            "grub_text": text(query["grub_file"]),
            "armed": bool(armed),
            "booted_armed": bool(armed) and armed.get("boot") != text("/proc/sys/kernel/random/boot_id").strip(),
            "reverted": bool(reverted),
            "reverted_words": reverted.get("words"),
            "reverted_reported": bool(reverted.get("reported")),
            "packages_missing": missing,
            "packages_unknown": unknown,
            "packages_half": half or (["dpkg was interrupted"] if journal else []),
            "time": time.time(),
            "foreign": [unit for unit in query["foreign"] if out("systemctl", "is-active", unit).strip() == "active"],
            "sysctls_unknown": [n for n in query["sysctls"] if not pathlib.Path("/proc/sys", *n.split(".")).exists()],
        }
    )
)
