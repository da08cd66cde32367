"""Runs on the node, as root, by `python3 -I -`: whether each file that a manifest names holds the bytes that were once verified.

Owns what a sum is compared with. Needs Python 3.10's standard library; docker where a container is asked for. Called by
fleet.managed.verify_weights, which appends main({manifest, recorded, containers}). Prints lines of JSON: {done, total}
every second in which bytes were read, the result last.
It changes one thing: a file that is wrong gets the present time, so that it no longer passes for verified at the next refresh.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading
from concurrent import futures
from typing import Any

BLOCK = 8 << 20
AT_ONCE = 8  # files
DOCKER = 60  # seconds that a call to Docker may take: a daemon that hangs gives no answer for ever

Wrong = dict[str, str]  # {what, expected, seen}


class Progress:
    """Bytes summed so far, of `total`."""

    def __init__(self, total: int) -> None:
        self.done, self.total, self.lock = 0, total, threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count


def say(told: dict[str, Any]) -> None:
    """Print one line; when nobody reads any more, the work has no end to wait for."""
    try:
        print(json.dumps(told), flush=True)
    except BrokenPipeError:
        os._exit(1)


def summed(path: pathlib.Path, progress: Progress) -> str:
    """Return the sha256 of what lies on the disk: pages that the kernel holds of it are let go before."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(BLOCK):
            total.update(block)
            progress.add(len(block))
    return total.hexdigest()


def look(folder: pathlib.Path, name: str, entry: dict[str, Any], progress: Progress) -> list[Wrong]:
    """Return how one file differs from its entry, as a list of one or none."""
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry["size"]:
            return [{"what": name, "expected": f"{entry['size']} bytes", "seen": f"{size} bytes"}]
        seen = f"sha256 {summed(path, progress)}"
    except OSError as problem:  # gone, or the disk does not give it back
        seen = "absent" if isinstance(problem, FileNotFoundError) else str(problem.strerror)
    expected = f"sha256 {entry['sha256']}"
    return [] if seen == expected else [{"what": name, "expected": expected, "seen": seen}]


def record(path: pathlib.Path, recorded: str) -> tuple[dict[str, Any], list[Wrong]]:
    """Return the manifest's entries by file, and how the manifest itself differs from the one that a run of ours left."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}, [{"what": path.name, "expected": f"sha256 {recorded}", "seen": "absent"}]
    seen = hashlib.sha256(text).hexdigest()
    wrong = [{"what": path.name, "expected": f"sha256 {recorded}", "seen": f"sha256 {seen}"}]
    try:
        listed = json.loads(text)["files"]
        files = {name: {"size": int(entry["size"]), "sha256": entry["sha256"]} for name, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, wrong
    if any(name.startswith("/") or ".." in name.split("/") for name in files):
        return {}, wrong
    return files, [] if seen == recorded else wrong


def containers(expected: dict[str, str]) -> list[Wrong]:
    """Return the containers that run another image than the recorded one; {name: image id} in."""
    wrong = []
    for name, image in expected.items():
        command = ["docker", "inspect", "--type=container", "--format={{.Image}}", name]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER)
        except subprocess.TimeoutExpired:
            sys.exit(
                f"`docker inspect` of {name} gave no answer within {DOCKER} s: restart Docker there, or reboot the node"
            )
        seen = asked.stdout.strip() or "absent"
        if seen != image:
            wrong.append({"what": f"container {name}", "expected": f"image {image}", "seen": seen})
    return wrong


def main(asked: dict[str, Any]) -> None:
    manifest = pathlib.Path(asked["manifest"])
    files, wrong = record(manifest, asked["recorded"])
    doubted = set(files) if wrong else set()  # what another manifest says of a file proves nothing
    progress = Progress(sum(entry["size"] for entry in files.values()))
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(look, manifest.parent, name, entry, progress) for name, entry in files.items()]
        left, told = set(running), -1
        while left:
            left = futures.wait(left, timeout=1).not_done
            if progress.done != told:  # a disk that gives nothing any more is silence
                told = progress.done
                say({"done": told, "total": progress.total})
    wrong += [one for ended in running for one in ended.result()]
    for name in sorted(doubted | {one["what"] for one in wrong} & set(files)):
        if (manifest.parent / name).exists():
            os.utime(manifest.parent / name)
    wrong += containers(asked["containers"])
    say({"files": len(files), "bytes": progress.total, "wrong": wrong})
