"""Record a host's state before the first change, so that the teardown can restore it: JSON in, {"recorded": [what]} out.

In: {record: path, write: bool, files: [path], sysctls: [name], ours: path of the roles' sysctl file}. The record, readable only for root:
{packages: [name], groups: [name], images: [id], files: {path: null if absent, else {mode, owner, group} and for a folder {empty}, for a
file {content}}, sysctls: {name: value}}; owner and group are numbers, content is base64. An item is recorded once and never changed.
Called by playbooks/tasks/baseline.yml through `python3 -c`; read by teardown.py.
"""

import base64
import grp
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

# Seconds that a call to Docker may take: a daemon that hangs never answers.
DOCKER = 60


def words(*command: str) -> list[str]:
    limit = DOCKER if command[0] == "docker" else None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit).stdout.split()
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {limit} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


def seen(path: pathlib.Path) -> dict | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": status.st_uid, "group": status.st_gid}
    if stat.S_ISDIR(status.st_mode):
        return {**found, "empty": not any(path.iterdir())}
    return {**found, "content": base64.b64encode(path.read_bytes()).decode()} if stat.S_ISREG(status.st_mode) else found


asked = json.load(sys.stdin)
place = pathlib.Path(asked["record"])
record = json.loads(place.read_text()) if place.exists() else {}
new = []
if not record:
    new.append("packages, groups and images")
    record = {
        "packages": words("dpkg-query", "-W", "-f", "${Package}\n"),
        "groups": [group.gr_name for group in grp.getgrall()],
        "images": words("docker", "image", "ls", "--quiet", "--no-trunc") if shutil.which("docker") else [],
        "files": {},
        "sysctls": {},
    }
for name in asked["files"]:
    if name not in record["files"]:
        record["files"][name] = seen(pathlib.Path(name))
        new.append(name)
ours = pathlib.Path(asked["ours"])
set_by_us = ours.read_text() if ours.exists() else ""
for name in asked["sysctls"]:
    path = pathlib.Path("/proc/sys", *name.split("."))
    if name not in record["sysctls"] and name not in set_by_us and path.exists():
        record["sysctls"][name] = " ".join(path.read_text().split())
        new.append(name)
if new and asked["write"]:
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = place.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(record, file)
    draft.replace(place)
print(json.dumps({"recorded": new}))
