"""Runs on the node, as root: revert changes made by hand. Reads JSON on stdin, prints {"reverted": [action]}. Ignores missing things.

In: {files, unmask, restart, containers, unhold: [str], attributes: [{path, mode, owner, group}]}, by fleet/managed/revert.py.
Called by playbooks/tasks/revert.yml through `python3 -c`. Needs systemctl, apt-mark, docker.
"""

import json
import pathlib
import shutil
import subprocess
import sys

request, reverted = json.load(sys.stdin), []
# Seconds for a removal by Docker; it does not end if the Docker daemon hangs.
DOCKER = 600


def run(*command: str) -> bool:
    limit = DOCKER if command[0] == "docker" else None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit).returncode == 0
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {limit} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


for unit in request.get("unmask") or []:
    if run("systemctl", "unmask", unit) and run("systemctl", "unmask", "--runtime", unit):
        reverted.append(f"unmasked {unit}")
for path in map(pathlib.Path, request.get("files") or []):
    if path.is_symlink() or path.is_file():
        path.unlink()
        reverted.append(f"removed {path}")
        if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
            path.parent.rmdir()
for entry in request.get("attributes") or []:
    path = pathlib.Path(entry["path"])
    if path.exists() and not path.is_symlink():
        shutil.chown(path, *(int(name) if name.isdigit() else name for name in (entry["owner"], entry["group"])))
        path.chmod(int(entry["mode"], 8))
        reverted.append(f"restored owner and mode of {path}")
run("systemctl", "daemon-reload")
for unit in request.get("restart") or []:
    if run("systemctl", "try-restart", unit):
        reverted.append(f"restarted {unit}")
for name in request.get("containers") or [] if shutil.which("docker") else []:
    run("systemctl", "stop", f"{name}.service")  # the role starts its unit again
    run("docker", "rm", "--force", name)
    reverted.append(f"stopped {name}")
for package in request.get("unhold") or []:
    if run("apt-mark", "unhold", package):
        reverted.append(f"released {package}")
print(json.dumps({"reverted": reverted}))
