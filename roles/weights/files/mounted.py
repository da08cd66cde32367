"""FOLDER: print which named disk should be mounted at or above a folder and is not; one line or none. Changes nothing.

Reads the mount units of the role host, and the kernel's mounts. Called by tasks/preflight.yml through `python3 -c`.
"""

import pathlib
import re
import sys

UNITS = "/etc/systemd/system"
folder = sys.argv[1]
mounted = {line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()}
missing = []
for unit in sorted(pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else UNITS).glob("*.mount")):
    text = unit.read_text(errors="replace")
    place = re.search(r"(?m)^Where=(.+)$", text)
    if "by the role host" in text and place and f"{folder}/".startswith(f"{place[1]}/") and place[1] not in mounted:
        missing.append(f"{unit.name} is not mounted at {place[1]}")
print(", ".join(missing))
