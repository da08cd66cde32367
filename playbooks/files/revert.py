"""Revert changes that somebody made by hand: JSON in, {"undone": [what was done]} out. A missing thing is no error.

In: {files, unmask, restart, containers, unhold: [str], attributes: [{path, mode, owner, group}]}. Called by playbooks/tasks/undo.yml through `python3 -c`.
"""

import json
import pathlib
import shutil
import subprocess
import sys

asked, undone = json.load(sys.stdin), []


# Seconds that a removal by Docker may take: a daemon that hangs never answers.
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


for unit in asked.get("unmask") or []:
    if run("systemctl", "unmask", unit) and run("systemctl", "unmask", "--runtime", unit):
        undone.append(f"unmasked {unit}")
for path in map(pathlib.Path, asked.get("files") or []):
    if path.is_symlink() or path.is_file():
        path.unlink()
        undone.append(f"removed {path}")
        if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
            path.parent.rmdir()
for one in asked.get("attributes") or []:
    path = pathlib.Path(one["path"])
    if path.exists() and not path.is_symlink():
        shutil.chown(path, *(int(name) if name.isdigit() else name for name in (one["owner"], one["group"])))
        path.chmod(int(one["mode"], 8))
        undone.append(f"gave back {path}")
run("systemctl", "daemon-reload")
for unit in asked.get("restart") or []:
    if run("systemctl", "try-restart", unit):
        undone.append(f"restarted {unit}")
for name in asked.get("containers") or [] if shutil.which("docker") else []:
    run("systemctl", "stop", f"{name}.service")  # the role starts its unit again
    run("docker", "rm", "--force", name)
    undone.append(f"stopped {name}")
for package in asked.get("unhold") or []:
    if run("apt-mark", "unhold", package):
        undone.append(f"released {package}")
print(json.dumps({"undone": undone}))
