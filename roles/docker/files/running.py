"""Print `another one` if the program of the running Docker daemon was replaced by an upgrade, else `the same`. Changes nothing.

A package may leave the old daemon running, which the new client may not be able to use.
Called by tasks/install.yml through `python3 -c`.
"""

import pathlib
import subprocess

show = ["systemctl", "show", "--property=MainPID", "--value", "docker.service"]
pid = subprocess.run(show, capture_output=True, text=True).stdout.strip()
program = pathlib.Path("/proc", pid, "exe")
print("another one" if pid not in ("", "0") and str(program.readlink()).endswith(" (deleted)") else "the same")
