"""arm | confirm | revert: a dead man's switch. A host goes back to its earlier boot configuration unless a run confirms the new one.

Owns /var/lib/fleet/boot-revert (this program, and armed.json: the earlier files), fleet-boot-revert.timer and .service, and the record of a
revert. `arm` reads {program, units: {name: text}, files: [path], words: [kernel argument], timeout: seconds} before the first write.
`confirm` disarms, and prints {"reverted": record, null if the host did not revert}. `revert` is run by the timer in each boot after `arm`.
Each step may be cut off by a power loss: the next boot's `revert` does it again. Needs systemctl and update-grub. Called by
tasks/arm.yml and tasks/confirm.yml through `python3 -c`, and by the service.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

FLEET = pathlib.Path("/var/lib/fleet")
FOLDER = FLEET / "boot-revert"
ARMED = FOLDER / "armed.json"
RECORD = FLEET / "boot-reverted.json"
MARKER = FLEET / "reboot-attempted"  # tasks/reboot.yml
UNITS = pathlib.Path("/etc/systemd/system")
TIMER, SERVICE = "fleet-boot-revert.timer", "fleet-boot-revert.service"
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")
MOST_UNITS = 5  # failed units in a record


def run(*command: str, check: bool = True) -> str:
    """Return what a command prints; with `check` exit with its error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()[-1000:] or f'exit code {done.returncode}'}")
    return done.stdout


def boot() -> str:
    return BOOT_ID.read_text().strip()


def load(path: pathlib.Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def write(path: pathlib.Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole, and sync it and its folder to the disk."""
    draft = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    write(path, json.dumps(value).encode())


def sync(folder: pathlib.Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def describe(path: pathlib.Path) -> dict[str, Any] | None:
    """Return a file as armed.json keeps it; None if there is none."""
    if not path.is_file():
        return None
    status = path.stat()
    owner = {"owner": status.st_uid, "group": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
    return {**owner, "content": base64.b64encode(path.read_bytes()).decode()}


def restore(path: pathlib.Path, earlier: dict[str, Any] | None) -> None:
    """Give a file its earlier content, mode and owner, or remove one that did not exist."""
    if earlier is None:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync(path.parent)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write(path, base64.b64decode(earlier["content"]), earlier["mode"])
    os.chown(path, earlier["owner"], earlier["group"])


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let a run's `confirm` and the timer's `revert` wait for each other."""
    FLEET.mkdir(mode=0o755, parents=True, exist_ok=True)
    number = os.open(FLEET, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def arm(request: dict[str, Any]) -> None:
    """Keep the earlier files, and enable the timer, which starts with the next boot. Files that are kept already stay as they are."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    kept = (load(ARMED) or {}).get("files") or {}
    files = {**{name: describe(pathlib.Path(name)) for name in request["files"]}, **kept}
    write(FOLDER / "boot_revert.py", request["program"].encode())
    about = {"words": request["words"], "timeout": request["timeout"]}
    write_json(ARMED, {"boot": boot(), "files": files, **about, "reverting": False, "rendered": ""})
    for name, text in request["units"].items():
        write(UNITS / name, text.encode(), 0o644)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", TIMER)
    os.sync()
    RECORD.unlink(missing_ok=True)  # of an earlier attempt


def disarm() -> None:
    """Remove units and folder, armed.json last: where it remains, the next run disarms again; without it the timer does nothing."""
    if (UNITS / TIMER).exists():
        run("systemctl", "disable", "--now", TIMER, check=False)
    for name in (TIMER, SERVICE):
        (UNITS / name).unlink(missing_ok=True)
    run("systemctl", "daemon-reload", check=False)
    os.sync()
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    sync(FLEET)


def confirm() -> dict[str, Any] | None:
    """Disarm; return the record of a revert that came first, and mark it as reported."""
    armed = load(ARMED)
    if armed:
        disarm()
    if armed and not armed["reverting"]:
        RECORD.unlink(missing_ok=True)
    record = load(RECORD)
    if record:
        write_json(RECORD, {**record, "reported": True})
    return record


def revert() -> bool:
    """Restore the earlier boot configuration, record that, disarm; return whether the host must boot again for it."""
    armed = load(ARMED)
    if not armed or armed["boot"] == boot():  # confirmed in the meantime, or somebody started the timer before the boot
        return False
    files = {pathlib.Path(name): earlier for name, earlier in armed["files"].items()}
    if not armed["reverting"]:
        if all(describe(path) == earlier for path, earlier in files.items()):
            disarm()  # the run ended before it changed anything
            return False
        failed = run("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", check=False).splitlines()
        armed |= {"reverting": True, "failed": [line.split()[0] for line in failed if line.strip()][:MOST_UNITS]}
        write_json(ARMED, armed)
    for path, earlier in files.items():
        restore(path, earlier)
    if not armed["rendered"]:
        run("/usr/sbin/update-grub")
        os.sync()
        about = {key: armed[key] for key in ("words", "timeout", "failed")}
        when = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        write_json(RECORD, {"when": when, **about, "files": [str(path) for path in files], "reported": False})
        armed["rendered"] = boot()
        write_json(ARMED, armed)
    MARKER.unlink(missing_ok=True)  # the record replaces it
    disarm()
    return bool(armed["rendered"] == boot())  # not after a power loss: that boot was the earlier configuration's


def main(verb: str) -> None:
    with alone():
        if verb == "arm":
            arm(json.load(sys.stdin))
        elif verb == "confirm":
            print(json.dumps({"reverted": confirm()}))
        elif revert():
            run("systemctl", "--no-block", "reboot")


if __name__ == "__main__":
    main(sys.argv[1])
