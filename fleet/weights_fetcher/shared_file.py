"""One file of a fetch with neighbours: its part with holes, its list of chunks, who sent each chunk, and the sum of the whole.

Owns TARGET.part and the list that neighbours read. Called by swarm.py, whose lock guards the attributes.
"""

import errno
import hashlib
import os
import pathlib
import threading

from . import chunks
from .download import Progress, Sums, no_space, pieces
from .hub import File
from .model import PART, Wrong

HUB, EARLIER = "", "an earlier run"  # who sent a chunk, where that is no neighbour


class SharedFile:
    """`mine` is the list; `missing` its holes; `flying` has by chunk when its request began; `sent` by chunk who sent it, and whose list it
    was compared with. `digest`: the sha256 of the whole, once that is right."""

    def __init__(self, file: File, target: pathlib.Path, board: chunks.Board, chunk: int) -> None:
        self.file, self.path, self.target = file, file.path, target
        self.part = target.with_name(target.name + PART)
        self.board, self.name = board, chunks.list_name(file.path)
        self.mine = chunks.empty(file.size, chunk)
        self.missing = set(range(len(self.mine.digests)))
        self.flying: dict[int, float] = {}
        self.sent: dict[int, tuple[str, str]] = {}
        self.author = self.digest = ""
        self.other: set[tuple[str, str]] = set()  # (neighbour, author) whose lists differ
        self.taking = False  # a thread of this run takes it from the hub
        self.lock = threading.Lock()  # of the part

    def resume(self, progress: Progress) -> None:
        """Read the part of an earlier run, keep the chunks that its list has, and publish the list. Without a list all whole chunks count."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        if self.part.is_symlink() or (self.part.exists() and self.part.stat().st_size > self.file.size):
            self.part.unlink()
        self.part.touch(0o640)
        old, size = self.board.old(self.path, self.file.size, self.mine.chunk), self.part.stat().st_size
        with self.part.open("rb") as stream:
            for index in range(len(self.mine.digests)):
                start, length = self.mine.span(index)
                if start + length > size or (old is not None and old[index] is None):
                    continue
                stream.seek(start)
                digest = hashlib.sha256(stream.read(length)).hexdigest()
                if old is None or old[index] == digest:
                    self.record(index, digest, EARLIER, EARLIER)
                    progress.add(length, fetched=False)
        self.publish()

    def publish(self, listed: bool = True) -> None:
        self.board.put(self.path, self.mine, listed)

    def record(self, index: int, digest: str, sender: str, author: str) -> None:
        """Count a chunk as there."""
        self.mine.digests[index] = digest
        self.missing.discard(index)
        self.sent[index] = sender, author

    def forget(self, indices: "set[int]") -> int:
        """Count chunks as missing. Return their bytes."""
        for index in indices:
            self.mine.digests[index] = None
            self.sent.pop(index, None)
        self.missing |= indices
        return sum(self.mine.span(index)[1] for index in indices)

    def by_neighbours(self) -> "set[int]":
        """Return the chunks that a neighbour sent."""
        return {index for index, (sender, _) in self.sent.items() if sender not in (HUB, EARLIER)}

    def write(self, index: int, data: "bytes | bytearray") -> None:
        """Write a chunk into the part. Raises Wrong, because a retry does not help a disk."""
        descriptor = os.open(self.part, os.O_WRONLY)
        try:
            written = os.pwrite(descriptor, data, self.mine.span(index)[0])
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise Wrong(f"{self.part}: {problem.strerror}") from None
            written = 0
        finally:
            os.close(descriptor)
        if written < len(data):  # the disk is full: a partial write succeeds
            left = sum(self.mine.span(hole)[1] for hole in self.missing)
            raise Wrong(f"{self.path}: {no_space(self.part.parent, left)}")

    def verify(self) -> str:
        """Return what is wrong with the whole file, or "" after moving it into place."""
        sums = Sums(self.file)
        for data in pieces(self.part):
            sums.add(data)
        if wrong := sums.wrong():
            return wrong
        with self.part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.target)
        self.mine.verified, self.mine.hub = True, False
        self.digest = sums.sha256.hexdigest()
        self.publish()
        return ""


def index(path: pathlib.Path, name: str, sha256: str, board: chunks.Board, chunk: int) -> str:
    """Publish the list of a verified file. Return what is wrong with the file, or ""."""
    mine, whole = chunks.empty(path.stat().st_size, chunk), hashlib.sha256()
    with path.open("rb") as stream:
        for number in range(len(mine.digests)):
            digest = hashlib.sha256()
            left = mine.span(number)[1]
            while left and (data := stream.read(min(left, 1 << 20))):
                digest.update(data)
                whole.update(data)
                left -= len(data)
            mine.digests[number] = digest.hexdigest()
    if whole.hexdigest() != sha256:
        board.drop(name)
        return f"sha256 {whole.hexdigest()}, wanted {sha256}"
    mine.verified = True
    board.put(name, mine)
    return ""
