"""Runs on the node, as root: record a host's state before the first change, so that the teardown can restore it: JSON in, {"recorded": [what]} out.

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

# Seconds for a call of docker; it does not end if the Docker daemon hangs.
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


def describe(path: pathlib.Path) -> dict | None:
    """Return what the record has of a file or folder; None if absent."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    entry = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": status.st_uid, "group": status.st_gid}
    if stat.S_ISDIR(status.st_mode):
        return {**entry, "empty": not any(path.iterdir())}
    return {**entry, "content": base64.b64encode(path.read_bytes()).decode()} if stat.S_ISREG(status.st_mode) else entry


request, recorded = json.load(sys.stdin), []
record_file = pathlib.Path(request["record"])
record = json.loads(record_file.read_text()) if record_file.exists() else {}
if not record:
    recorded.append("packages, groups and images")
    record = {
        "packages": words("dpkg-query", "-W", "-f", "${Package}\n"),
        "groups": [group.gr_name for group in grp.getgrall()],
        "images": words("docker", "image", "ls", "--quiet", "--no-trunc") if shutil.which("docker") else [],
        "files": {},
        "sysctls": {},
    }
for name in request["files"]:
    if name not in record["files"]:
        record["files"][name] = describe(pathlib.Path(name))
        recorded.append(name)
sysctl_file = pathlib.Path(request["ours"])
set_by_us = sysctl_file.read_text() if sysctl_file.exists() else ""
for name in request["sysctls"]:
    path = pathlib.Path("/proc/sys", *name.split("."))
    if name not in record["sysctls"] and name not in set_by_us and path.exists():
        record["sysctls"][name] = " ".join(path.read_text().split())
        recorded.append(name)
if recorded and request["write"]:
    record_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = record_file.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(record, file)
    draft.replace(record_file)
print(json.dumps({"recorded": recorded}))
