"""Which named disk should lie under a folder and is not mounted: a folder as argument, one line out or none, nothing changed.

Asks the mount units that the role host has written, and the kernel. Called by tasks/preflight.yml through `python3 -c`.
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
