"""FOLDER: print which named disk should be mounted at or above a folder and is not; one line or none. Changes nothing.

Reads the mount units of the role host, and the kernel's mounts. The role weights runs it through `python3 -c` (tasks/preflight.yml).
"""

import pathlib
import re
import sys

UNITS = "/etc/systemd/system"


def missing_mounts(folder: str, units: str = UNITS) -> list[str]:
    """Return a line for each mount unit of the role host at or above a folder that is not mounted."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    mounted = {line.split()[4] for line in mounts}
    missing = []
    for unit in sorted(pathlib.Path(units).glob("*.mount")):
        text = unit.read_text(errors="replace")
        place = re.search(r"(?m)^Where=(.+)$", text)
        if "by the role host" in text and place and f"{folder}/".startswith(f"{place[1]}/") and place[1] not in mounted:
            missing.append(f"{unit.name} is not mounted at {place[1]}")
    return missing


if __name__ == "__main__":
    print(", ".join(missing_mounts(*sys.argv[1:])))
