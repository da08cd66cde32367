"""Runs on the node, as root, by `python3 -I -`: keep the files of a resource before a change, and restore them with their units.

Called by snapshot.py with {do: "take", folder, files, units, replicas, good: keep them}: prints {"kept": whether a state is kept,
"unfinished": whether by an unfinished change: that one stays}; {do: "restore", folder, files, units, seconds, restart, force}, where files and units are those of the failed change, and restart names
the units to restart, all for none, by `force` also where every file is as it was: prints a line {"done", "starting",
"failed", "replicas"} about each second; {do: "drop", folder}. Needs Python 3.10's standard library.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any

Facts = dict[str, Any]

POLL, STEP = 0.25, 1.0


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=90).stdout


def take(folder: pathlib.Path, request: Facts) -> Facts:
    """Keep the regular files and the names of their units if they are good, unless an unfinished change has kept its own."""
    archive = folder / "serving.tar"
    if archive.exists() or not request["good"]:
        return {"kept": archive.exists(), "unfinished": archive.exists()}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    draft = folder / ".serving.tar.new"
    files = [name for name in request["files"] if pathlib.Path(name).is_file() and not pathlib.Path(name).is_symlink()]
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in files:
                tar.add(name, recursive=False)
        file.flush()
        os.fsync(file.fileno())
    listing = {"files": files, "units": request["units"], "replicas": request["replicas"]}
    (folder / "serving.json").write_text(json.dumps(listing))
    draft.rename(archive)
    return {"kept": True, "unfinished": False}


def extract(archive: pathlib.Path) -> bool:
    """Write each file of the archive that is another now, atomically, with its mode and owner. Return whether there was one."""
    differs = False
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                continue
            path = pathlib.Path("/") / member.name
            if path.is_file() and not path.is_symlink() and path.read_bytes() == content.read():
                os.chown(path, member.uid, member.gid)
                path.chmod(member.mode)
                continue
            differs = True
            content.seek(0)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.last")
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                shutil.copyfileobj(content, file)
            os.chown(draft, member.uid, member.gid)
            draft.chmod(member.mode)
            draft.rename(path)
    return differs


def state(unit: str) -> str:
    """Return done, failed or starting. A start that systemd repeats has failed once."""
    shown = systemctl("show", unit, "-p", "ActiveState,SubState,NRestarts,Job")
    seen = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if seen.get("ActiveState") == "active" and not seen.get("Job"):
        return "done"
    again = seen.get("SubState") == "auto-restart" or seen.get("NRestarts", "0") != "0"
    busy = seen.get("ActiveState") in ("activating", "deactivating") or seen.get("Job")
    return "starting" if busy and not again else "failed"


def restore(folder: pathlib.Path, request: Facts) -> None:
    """Remove what the failed change added, restore the kept files, restart the units, and report until they are healthy or have failed.

    A change that failed before it wrote anything left the units alone: then only those are restarted that do not run.
    """
    try:
        kept = json.loads((folder / "serving.json").read_text())
        added = [name for name in request["units"] if name not in kept["units"]]
        if added:
            systemctl("disable", "--now", *added)
        for name in request["files"]:
            path = pathlib.Path(name)
            if name not in kept["files"] and (path.is_file() or path.is_symlink()):
                path.unlink()
        changed = extract(folder / "serving.tar")
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        sys.exit(f"the kept files in {folder}: {error}")
    units = [unit for unit in kept["units"] if unit in (request["restart"] or kept["units"])]
    systemctl("daemon-reload")
    restarts = units if changed or request["force"] else [unit for unit in units if state(unit) == "failed"]
    if units:
        systemctl("enable", *units)
    if restarts:
        systemctl("reset-failed", *restarts)
        systemctl("restart", "--no-block", *restarts)
    end, line = time.monotonic() + request["seconds"], 0.0
    while True:
        states = {unit: state(unit) for unit in units}
        starting = [unit for unit, word in states.items() if word == "starting"]
        late = time.monotonic() > end
        failed = [unit for unit, word in states.items() if word == "failed" or (late and word == "starting")]
        done = late or not starting
        if done or time.monotonic() >= line:
            line = time.monotonic() + STEP
            report = {"done": done, "starting": starting, "failed": failed, "replicas": kept["replicas"]}
            print(json.dumps(report), flush=True)
        if done:
            return
        time.sleep(POLL)


def main(request: Facts) -> None:
    folder = pathlib.Path(request["folder"])
    if request["do"] == "take":
        print(json.dumps(take(folder, request)))
    elif request["do"] == "restore":
        restore(folder, request)
    else:
        shutil.rmtree(folder, ignore_errors=True)
