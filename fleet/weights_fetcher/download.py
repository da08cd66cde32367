"""Downloads one file of a model from the hub, and decides how long to retry.

Owns the part file, its sums and the pauses between tries. Called by fetch.py.
"""

import errno
import hashlib
import http.client
import os
import pathlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from .hub import LONGEST_PAUSE, File, Hub
from .model import PART, Wrong, plain

CHUNK = 1 << 20
Result = TypeVar("Result")


class Sums:
    """sha256 and git's blob id of bytes that arrive in pieces."""

    def __init__(self, file: File) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False) if file.blob else None

    def add(self, data: bytes) -> None:
        self.sha256.update(data)
        if self.blob:
            self.blob.update(data)

    def wrong(self) -> str:
        """Return what is wrong with the bytes so far, or ""."""
        if self.file.sha256 and self.sha256.hexdigest() != self.file.sha256:
            return f"sha256 {self.sha256.hexdigest()}, wanted {self.file.sha256}"
        if self.blob and self.blob.hexdigest() != self.file.blob:
            return f"git blob {self.blob.hexdigest()}, wanted {self.file.blob}"
        return ""


class Patience:
    """How long to retry: `limit` seconds after the last new byte.

    The pauses grow to half a minute, or are what the server asks for. `stop` ends every pause at once.
    """

    def __init__(self, limit: float, stop: threading.Event) -> None:
        self.limit, self.stop = limit, stop
        self.reset()

    def reset(self) -> None:
        self.last, self.tries = time.monotonic(), 0

    def wait(self, what: str, problem: Exception) -> None:
        """Print the problem and pause before the next try. Raises Wrong when the time is over."""
        left = self.last + self.limit - time.monotonic()
        if left <= 0 or self.stop.is_set():
            raise Wrong(f"{what}: {plain(problem, 400)} ({self.limit:g} s without a byte)")
        pause = min(getattr(problem, "pause", 0) or min(2.0**self.tries, 30), LONGEST_PAUSE, left)
        self.tries = min(self.tries + 1, 5)
        print(f"{what}: {plain(problem, 400)}; again in {pause:.0f} s", flush=True)
        self.stop.wait(pause)


def with_retries(what: str, patience: Patience, request: Callable[[], Result]) -> Result:
    """Return the result of `request`; retries while it raises OSError. Raises Wrong after the limit of `patience`."""
    while True:
        try:
            return request()
        except (OSError, http.client.HTTPException) as problem:
            patience.wait(what, problem)


def no_space(folder: pathlib.Path, needed: int) -> str:
    """Return the message about a file system that is full, or would be."""
    free, need = (
        f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        for size in (shutil.disk_usage(folder).free, needed)
    )
    return f"{folder}: no space left: {free} are free, {need} are needed"


def pieces(path: pathlib.Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while data := stream.read(CHUNK):
            yield data


class Progress:
    """Bytes done, printed every two seconds: a waiting run shows the last line of the unit's journal."""

    def __init__(self, total: int, files: int) -> None:
        self.total, self.files, self.done, self.complete, self.printed = total, files, 0, 0, 0.0
        self.start, self.first, self.lock = time.monotonic(), 0, threading.Lock()

    def add(self, count: int, fetched: bool = True) -> None:
        with self.lock:
            self.done += count
            self.first += 0 if fetched else count
            if time.monotonic() - self.printed >= 2:
                self.show()

    def show(self) -> None:
        """Print the progress."""
        self.printed = time.monotonic()
        speed = (self.done - self.first) / max(self.printed - self.start, 0.001) / 1e6
        print(
            f"{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {self.complete} of {self.files} files, {speed:.0f} MB/s",
            flush=True,
        )


class Download:
    """The download of one file: `part` has its first bytes, and `sums` their sums."""

    def __init__(self, hub: Hub, file: File, target: pathlib.Path, patience: Patience, progress: Progress) -> None:
        self.hub, self.file, self.target, self.patience, self.progress = hub, file, target, patience, progress
        self.part = target.with_name(target.name + PART)
        self.have = self.most = 0  # bytes in the part; their maximum
        self.sums = Sums(file)

    def run(self) -> str:
        """Download and verify the file, move it into place, return its sha256. Downloads once more if an old part was wrong. Raises Wrong."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        resumed = self.resume()
        self.fetch()
        if resumed and self.sums.wrong():
            self.discard()
            self.most = 0  # none of it was right
            self.fetch()
        if wrong := self.sums.wrong():
            self.part.unlink()
            raise Wrong(f"{self.file.path}: {wrong}; the file was removed, the next run fetches it again")
        with self.part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.target)
        self.progress.complete += 1
        return self.sums.sha256.hexdigest()

    def resume(self) -> int:
        """Read the part of an earlier run, and return its size."""
        if not self.part.exists() or self.part.stat().st_size > self.file.size:
            self.part.unlink(missing_ok=True)
            self.part.touch(0o600)
        for data in pieces(self.part):
            self.sums.add(data)
            self.progress.add(len(data), fetched=False)
            self.have = self.most = self.have + len(data)
        return self.have

    def discard(self) -> None:
        """Drop the part. Later bytes count as new only beyond the former maximum."""
        os.truncate(self.part, 0)
        self.progress.add(-self.have, fetched=False)
        self.have, self.sums = 0, Sums(self.file)

    def fetch(self) -> None:
        """Append the missing bytes to the part; continue after a broken connection. Raises Wrong when the time is over."""
        self.patience.reset()
        with self.part.open("r+b", buffering=0) as stream:
            while self.have < self.file.size:
                try:
                    with self.hub.file(self.file.path, self.have) as answer:
                        self.receive(answer, stream)
                    if self.have < self.file.size:
                        raise OSError(f"the connection ended at {self.have} of {self.file.size} bytes")
                except (OSError, http.client.HTTPException) as problem:
                    self.patience.wait(self.file.path, problem)

    def receive(self, answer: http.client.HTTPResponse, stream: BinaryIO) -> None:
        """Write the bytes of one answer."""
        start = self.have if answer.status == 206 else 0  # a server that ignores Range sends the whole file
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) != self.file.size - start:
            raise OSError(f"an answer of {plain(length, 20)} bytes, wanted {self.file.size - start}")
        if start and range_start(answer) != start:
            raise OSError(f"other bytes than those from {start} on")
        if start < self.have:
            self.discard()
        stream.seek(self.have)
        while data := answer.read1(min(CHUNK, self.file.size - self.have)):
            self.write(data, stream)
            self.sums.add(data)
            self.progress.add(len(data))
            if self.have > self.most:
                self.most = self.have
                self.patience.reset()
            if self.patience.stop.is_set():
                raise Wrong("the fetch of another file failed")

    def write(self, data: bytes, stream: BinaryIO) -> None:
        """Append to the part. Raises Wrong, because a retry does not help a disk."""
        try:
            written = stream.write(data)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise Wrong(f"{self.part}: {problem.strerror}") from None
            written = 0
        self.have += written
        if written < len(data):  # the disk is full: a partial write succeeds, the next one would fail
            raise Wrong(f"{self.file.path}: {no_space(self.part.parent, self.file.size - self.have)}")


def range_start(answer: http.client.HTTPResponse) -> int:
    """Return the first byte of a 206 answer, -1 if it does not say."""
    match = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1
