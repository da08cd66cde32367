"""SECONDS PACKAGE…: install kernel headers that a vendor's apt preference forbids (OCI pins linux-* to -1).

A temporary file, for this one call of apt, has a preference for these packages and the headers that they need; the vendor's pins
stay. Waits up to SECONDS for apt's lock. Ends with apt's output and exit code.
Called by tasks/install.yml through `python3 -c`.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

PREFERENCES = pathlib.Path("/etc/apt/preferences")
OF_HEADERS = re.compile(r"linux-.*(headers|kbuild|compiler)|linux-modules-extra-")


def needed(names: list[str]) -> list[str]:
    """Return these packages, and kernel headers and build tools among their dependencies, without regard to preferences."""
    free = ["-o", "Dir::Etc::preferences=/dev/null", "-o", "Dir::Etc::preferencesparts=/dev/null"]
    found = list(names)
    for name in found:
        answer = subprocess.run(["apt-cache", *free, "depends", name], capture_output=True, text=True).stdout
        found += [
            other
            for other in re.findall(r"^\s*\|?(?:Pre)?Depends: ([^<\s]\S*)", answer, re.MULTILINE)
            if OF_HEADERS.match(other) and other not in found
        ]
    return found


seconds, *packages = sys.argv[1:]
with tempfile.TemporaryDirectory(prefix="fleet-apt-") as folder:
    # apt uses the first preference for a package, and reads this file before /etc/apt/preferences.d.
    preference = pathlib.Path(folder, "preferences")
    vendor = PREFERENCES.read_text() if PREFERENCES.exists() else ""
    preference.write_text(f"Package: {' '.join(needed(packages))}\nPin: version *\nPin-Priority: 500\n\n{vendor}")
    options = [f"Dir::Etc::preferences={preference}", f"DPkg::Lock::Timeout={seconds}", "APT::Install-Recommends=false"]
    command = ["apt-get", "--yes", "--quiet", *(word for option in options for word in ("-o", option))]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    sys.exit(subprocess.run([*command, "install", *packages], env=environment, stdin=subprocess.DEVNULL).returncode)
