"""Takes units, containers, files and folders off a host: JSON in, {"gone": [what was removed]} out. What is not there is no error.

In: {units, containers, files, trees: [str]}. Called by playbooks/take-off.yml through `python3 -c`.
"""

import json
import pathlib
import shutil
import subprocess
import sys

managed, gone = json.load(sys.stdin), []


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


units = [unit if "." in unit.rpartition("/")[2] else f"{unit}.service" for unit in managed.get("units") or []]
for unit in units:
    if run("systemctl", "cat", unit).returncode == 0:
        run("systemctl", "disable", "--now", unit)
        gone.append(f"unit {unit}")
for name in managed.get("containers") or [] if shutil.which("docker") else []:
    if run("docker", "rm", "--force", name).stdout.strip():
        gone.append(f"container {name}")
paths = [pathlib.Path(path) for path in managed.get("files") or []]
for path in paths:
    if path.is_symlink() or path.is_file():
        path.unlink()
        gone.append(str(path))
for path in map(pathlib.Path, managed.get("trees") or []):
    if path.is_dir():
        shutil.rmtree(path)
        gone.append(str(path))
# Folders go deepest first, and only when nothing of anybody else is in them.
for path in sorted(paths, key=lambda path: len(path.parts), reverse=True):
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()
        gone.append(str(path))
if any(path.parts[:4] == ("/", "etc", "default", "grub.d") for path in paths) and shutil.which("update-grub"):
    run("update-grub")
run("systemctl", "daemon-reload")
run("systemctl", "reset-failed", *units)
print(json.dumps({"gone": gone}))
