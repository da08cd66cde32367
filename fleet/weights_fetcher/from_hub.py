"""Takes the chunks of a file from the hub that no neighbour has: runs of them in one answer, and on after a broken connection.

Called by swarm.py, in a thread for each file.
"""

import hashlib
import http.client
import threading
import time
from typing import Protocol

from .download import Patience, Progress, range_start
from .hub import Hub
from .model import Wrong, plain
from .shared_file import HUB, SharedFile

PIECE = 1 << 20


class Fetch(Protocol):
    """What a thread here needs of the fetch that it belongs to. `change` guards all that several threads read."""

    hub: Hub
    change: threading.Condition
    stop: threading.Event
    progress: Progress

    def yields(self, file: SharedFile) -> bool:
        """Return whether another node takes this file."""

    def elsewhere(self, file: SharedFile, index: int) -> bool:
        """Return whether a neighbour has a chunk."""

    def store(
        self, file: SharedFile, index: int, data: bytes | bytearray, digest: str, sender: str, author: str
    ) -> None:
        """Keep a chunk."""


def take(fetch: Fetch, file: SharedFile, patience: Patience) -> None:
    """Take what is missing, until nothing is, or another node takes it. Raises Wrong."""
    held, data = -1, bytearray()  # the chunk of which bytes are there, and these
    while run := _run(fetch, file):
        if run[0] != held:
            held, data = run[0], bytearray()
        first, end = file.mine.span(held)[0] + len(data), sum(file.mine.span(run[-1]))
        try:
            with fetch.hub.file(file.path, first, end if end < file.file.size else 0) as answer:
                _skip(answer, first, end)
                for held in run:
                    if not _begin(fetch, file, held):
                        break
                    _fill(fetch, file, answer, data, held, patience)
                    fetch.store(file, held, data, hashlib.sha256(data).hexdigest(), HUB, HUB)
                    _end(fetch, file, held)
                    data = bytearray()
                held = -1
        except (OSError, http.client.HTTPException) as problem:
            patience.wait(file.path, problem)
        finally:
            _end(fetch, file, held)


def _run(fetch: Fetch, file: SharedFile) -> list[int]:
    """Return the first chunks, one after the other, that nobody has and nobody fetches."""
    run: list[int] = []
    with fetch.change:
        if fetch.stop.is_set() or fetch.yields(file):
            return []
        for index in sorted(file.missing):
            free = index not in file.flying and not fetch.elsewhere(file, index)
            if run and (not free or index != run[-1] + 1):
                break
            if free:
                run.append(index)
    return run


def _begin(fetch: Fetch, file: SharedFile, index: int) -> bool:
    """Mark a chunk as being fetched. Return False if it is no longer to be fetched here."""
    with fetch.change:
        free = index in file.missing and index not in file.flying and not fetch.elsewhere(file, index)
        if not free or fetch.yields(file):
            return False
        file.flying[index] = time.monotonic()
    return True


def _end(fetch: Fetch, file: SharedFile, index: int) -> None:
    with fetch.change:
        file.flying.pop(index, None)


def _skip(answer: http.client.HTTPResponse, first: int, end: int) -> None:
    """Check which bytes the answer has, and read those before the first wanted one. Raises OSError."""
    if answer.status == 206 and range_start(answer) != first:
        raise OSError(f"other bytes than those from {first} on")
    length = answer.headers.get("Content-Length", "")
    if answer.status == 206 and length.isdecimal() and int(length[:20]) != end - first:
        raise OSError(f"an answer of {plain(length, 20)} bytes, wanted {end - first}")
    left = 0 if answer.status == 206 else first  # a server that ignores Range sends the whole file
    while left:
        data = answer.read1(min(PIECE, left))
        if not data:
            raise OSError(f"the connection ended before byte {first}")
        left -= len(data)


def _fill(
    fetch: Fetch, file: SharedFile, answer: http.client.HTTPResponse, data: bytearray, index: int, patience: Patience
) -> None:
    """Append the missing bytes of a chunk. Raises OSError where the connection ends before, Wrong where the fetch ends."""
    start, length = file.mine.span(index)
    while len(data) < length:
        piece = answer.read1(min(PIECE, length - len(data)))
        if not piece:
            raise OSError(f"the connection ended at {start + len(data)} of {file.file.size} bytes")
        data += piece
        fetch.progress.add(len(piece))
        patience.reset()
        if fetch.stop.is_set():
            raise Wrong("the fetch of another file failed")
