"""read|make: file systems on disks named by serial. JSON in, JSON out; `read` changes nothing.

In: {"filesystems": [{"serial", "path", "type", "uuid"}], "record": file}. Out, for each: {"serial", "path", "device", "bytes", "state",
"why", "mounted"}; `state` is "empty" (may be made), "ready" (made by an earlier run), "absent" or "refused" (`why` has the reason).
`make` makes only those that are empty, one after the other. The UUID, which follows from the serial, identifies a file system of an
earlier run. The record has the file system being made, so that a killed `make` is repeated.
Needs Python 3.10, root, util-linux; for `make` e2fsprogs or xfsprogs. Called by tasks/preflight.yml and tasks/filesystems.yml through
`python3 -c`; fleet/preflight/on_node_facts.py runs before its functions.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

MIB = 1 << 20
SYS = "/sys/block"
LINK_SECONDS = 30.0  # until udev has made /dev/disk/by-uuid/UUID
MAKERS = {"ext4": ["mkfs.ext4", "-q", "-L", "fleet", "-U"], "xfs": ["mkfs.xfs", "-q", "-L", "fleet", "-m"]}


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")


def _plain(serial: object) -> str:
    """Return a serial as udev writes it: without spaces."""
    return "_".join(str(serial or "").split())


def _disks() -> dict[str, list[str]]:
    """Return names of whole disks by serial, which the kernel has, or else udev (lsblk)."""
    names = [one.name for one in sorted(pathlib.Path(SYS).iterdir()) if _text(one / "hidden") != "1"]
    listing = json.loads(_run("lsblk", "--json", "--nodeps", "--output", "NAME,SERIAL").stdout or "{}")
    serials = {one["name"]: one.get("serial") for one in listing.get("blockdevices", [])}
    found: dict[str, list[str]] = {}
    for name in names:
        if serial := _plain(_text(pathlib.Path(SYS, name, "device/serial")) or serials.get(name)):
            found.setdefault(serial, []).append(name)
    return found


def _mounts() -> list[tuple[str, str]]:
    """Return (MAJOR:MINOR, folder) of each mount, the latest first."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return [(line.split()[2], line.split()[4]) for line in reversed(lines)]


def _identity(device: str) -> dict[str, str]:
    """Return what blkid finds on the device itself: TYPE, UUID …; {"error"} if it finds several things."""
    asked = _run("blkid", "-p", "-o", "export", device)
    if asked.returncode not in (0, 2):
        return {"error": (asked.stderr.strip().splitlines() or [f"blkid ends with {asked.returncode}"])[-1]}
    return dict(
        line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line and not line.startswith("DEVNAME=")
    )


def _holds(name: str, device: str) -> str:
    """Return what a disk holds, "" for nothing: partitions, users, signatures, bytes at either end."""
    block = pathlib.Path(SYS, name)
    if parts := sorted(one.parent.name for one in block.glob("*/partition")):
        return f"it has partitions ({', '.join(parts)})"
    if holders := sorted(one.name for one in (block / "holders").glob("*")):
        return f"{', '.join(_text(pathlib.Path(SYS, one, 'dm/name')) or one for one in holders)} uses it"
    if places := [folder for number, folder in _mounts() if number == _text(block / "dev")]:
        return f"it is mounted at {', '.join(places)}"
    if _text(block / "ro") != "0":
        return "it is read-only"
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        return f"it is in use ({error.strerror})"
    if found := _identity(device):
        kind = found.get("TYPE") or found.get("PTTYPE") or found.get("error") or "a signature"
        return f"it holds {kind}" + (f" (label {found['LABEL']})" if "LABEL" in found else "")
    if signatures := _run("wipefs", "--no-act", "--noheadings", "--output", "TYPE", device).stdout.split():
        return f"it holds {', '.join(signatures)}"
    with pathlib.Path(device).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for start in (0, max(0, end - MIB)):
            file.seek(start)
            if any(file.read(MIB)):
                return f"its {'first' if start == 0 else 'last'} MiB is not zero"
    return ""


def _covers(path: str) -> str:
    """Return why nothing can be mounted at a folder, else "": it holds something, or is or is below a link or a file."""
    place = pathlib.Path(path)
    if place.is_symlink() or (place.exists() and not place.is_dir()) or place.resolve() != place:
        return f"{path} is, or lies below, a link or a file"
    if place.is_dir() and (inside := sorted(one.name for one in place.iterdir())):
        return f"{path} holds {', '.join(inside[:3])}{' …' if len(inside) > 3 else ''}, which a mount would hide"
    return ""


def _record(path: str) -> dict[str, Any]:
    try:
        found = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: str, record: dict[str, Any]) -> None:
    """Replace the record and sync it to the disk."""
    pathlib.Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = pathlib.Path(f"{path}.new")
    with beside.open("w") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _look(one: dict[str, str], names: list[str], begun: bool) -> dict[str, Any]:
    """Return the state of one named disk; `begun`: an earlier `make` was killed."""
    seen: dict[str, Any] = {key: one[key] for key in ("serial", "path")}
    seen |= {"device": "", "bytes": 0, "state": "absent", "why": "no disk has this serial", "mounted": False}
    if len(names) != 1:
        return seen | ({"state": "refused", "why": f"{' and '.join(names)} have this serial"} if names else {})
    name, device = names[0], f"/dev/{names[0]}"
    seen |= {"device": device, "bytes": int(_text(pathlib.Path(SYS, name, "size")) or 0) * 512}
    number = _text(pathlib.Path(SYS, name, "dev"))
    at_path = next((found for found, folder in _mounts() if folder == one["path"]), "")
    found = _identity(device)
    if found.get("UUID") == one["uuid"]:
        places = [folder for mounted, folder in _mounts() if mounted == number]
        why = ""
        if found.get("TYPE") != one["type"]:
            why = f"we made {found.get('TYPE')} there, {one['type']} is wanted"
        elif places and one["path"] not in places:
            why = f"it is mounted at {places[0]}"
        elif at_path and at_path != number:
            why = f"something else is mounted at {one['path']}"
        elif not places:
            why = _covers(one["path"])
        return seen | {"state": "refused" if why else "ready", "why": why, "mounted": at_path == number}
    why = _holds(name, device)
    if begun and why.startswith(("its first MiB", "its last MiB")):
        why = ""  # the killed `make` wrote it
    if not why and at_path:
        why = f"something else is mounted at {one['path']}"
    why = why or _covers(one["path"])
    return seen | {"state": "refused" if why else "empty", "why": why}


def filesystems(asked: list[dict[str, str]], record: str) -> list[dict[str, Any]]:
    """Return the state of each named disk."""
    known, begun = _disks() if asked else {}, _record(record)
    return [
        _look(one, known.get(_plain(one["serial"]), []), (begun.get(one["serial"]) or {}).get("state") == "making")
        for one in asked
    ]


def _make(one: dict[str, str], device: str, record: str) -> None:
    """Make one file system on an empty disk, and record it."""
    _write(record, _record(record) | {one["serial"]: {"state": "making"}})
    uuid = f"uuid={one['uuid']}" if one["type"] == "xfs" else one["uuid"]
    made = _run(*MAKERS[one["type"]], uuid, device)  # without force: each program also checks the disk
    if made.returncode or _identity(device).get("UUID") != one["uuid"]:
        sys.exit(
            f"{' '.join(MAKERS[one['type']][:1])} {device}: {made.stderr.strip() or 'made nothing that blkid finds'}"
        )
    _write(record, _record(record) | {one["serial"]: {"state": "made"}})


def _ready(one: dict[str, str]) -> None:
    """Wait for udev's link; make the folder immutable, so that nothing writes below an unmounted disk, if its file system supports that."""
    link, end = pathlib.Path("/dev/disk/by-uuid", one["uuid"]), time.monotonic() + LINK_SECONDS
    while not link.exists():
        if time.monotonic() > end:
            sys.exit(f"udev has made no {link} within {LINK_SECONDS:.0f} s")
        time.sleep(0.1)
    pathlib.Path(one["path"]).mkdir(mode=0o755, parents=True, exist_ok=True)
    _run("chattr", "+i", one["path"])


def _main(verb: str, query: dict[str, Any]) -> None:
    asked, record = query["filesystems"], query["record"]
    seen = filesystems(asked, record)
    if verb == "make":
        for one, found in zip(asked, seen, strict=True):
            if found["state"] in ("absent", "refused"):
                sys.exit(f"disk {one['serial']}: {found['why']}; nothing was written to it")
            if found["state"] == "empty":
                _make(one, found["device"], record)
            if not found["mounted"]:
                _ready(one)
        seen = filesystems(asked, record)
    print(json.dumps(seen))


if sys.argv[1:2] in (["read"], ["make"]):
    _main(sys.argv[1], json.load(sys.stdin))
