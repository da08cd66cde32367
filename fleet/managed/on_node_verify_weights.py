"""Runs on the node, as root, by `python3 -I -`: compare each file of a manifest with its sha256, and containers with their image ID.

Called by verify_weights.py with {manifest, recorded, containers}. Prints lines of JSON: {done, total} each second in which it read bytes,
then the result. Changes only the time of files that differ, so that the next refresh reports them as drift. Needs Python 3.10's standard
library; docker for containers.
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
DOCKER = 60  # seconds for a call of docker; it does not end if the Docker daemon hangs

Wrong = dict[str, str]  # {what, expected, seen}


class Progress:
    """Bytes done, of `total`; several threads add to them."""

    def __init__(self, total: int) -> None:
        self.done, self.total, self.lock = 0, total, threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count


def report(line: dict[str, Any]) -> None:
    """Print one line; end the process if nobody reads it."""
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:
        os._exit(1)


def sha256(path: pathlib.Path, progress: Progress) -> str:
    """Return the sha256 of the file on the disk; first drop its pages in the kernel's cache."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(BLOCK):
            total.update(block)
            progress.add(len(block))
    return total.hexdigest()


def compare(folder: pathlib.Path, name: str, entry: dict[str, Any], progress: Progress) -> list[Wrong]:
    """Return the difference of one file from its entry, as a list of one or none."""
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry["size"]:
            return [{"what": name, "expected": f"{entry['size']} bytes", "seen": f"{size} bytes"}]
        seen = f"sha256 {sha256(path, progress)}"
    except OSError as problem:  # absent, or the disk fails
        seen = "absent" if isinstance(problem, FileNotFoundError) else str(problem.strerror)
    expected = f"sha256 {entry['sha256']}"
    return [] if seen == expected else [{"what": name, "expected": expected, "seen": seen}]


def read_manifest(path: pathlib.Path, recorded: str) -> tuple[dict[str, Any], list[Wrong]]:
    """Return the manifest's entries by file, and the difference of the manifest from its recorded sha256."""
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
    """Return the containers that run another image than the expected one, from {name: image ID}."""
    wrong = []
    for name, image in expected.items():
        command = ["docker", "inspect", "--type=container", "--format={{.Image}}", name]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER)
        except subprocess.TimeoutExpired:
            sys.exit(
                f"`docker inspect` of {name} gave no answer within {DOCKER} s: restart Docker there, or reboot the node"
            )
        seen = result.stdout.strip() or "absent"
        if seen != image:
            wrong.append({"what": f"container {name}", "expected": f"image {image}", "seen": seen})
    return wrong


def main(request: dict[str, Any]) -> None:
    manifest = pathlib.Path(request["manifest"])
    files, wrong = read_manifest(manifest, request["recorded"])
    doubtful = set(files) if wrong else set()  # the entries of a changed manifest prove nothing
    progress = Progress(sum(entry["size"] for entry in files.values()))
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(compare, manifest.parent, name, entry, progress) for name, entry in files.items()]
        left, reported = set(running), -1
        while left:
            left = futures.wait(left, timeout=1).not_done
            if progress.done != reported:  # no line without progress: the caller then gives up
                reported = progress.done
                report({"done": reported, "total": progress.total})
    wrong += [difference for comparison in running for difference in comparison.result()]
    for name in sorted(doubtful | {difference["what"] for difference in wrong} & set(files)):
        if (manifest.parent / name).exists():
            os.utime(manifest.parent / name)
    wrong += containers(request["containers"])
    report({"files": len(files), "bytes": progress.total, "wrong": wrong})
