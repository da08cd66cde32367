"""What a node publishes of its files: a list of each file's chunks, with the sha256 of each, and a summary of which it has.

What a neighbour publishes is a claim: it says who may have a chunk, and which chunk is not what was claimed. The sha256 of the whole file,
from the manifest, decides (shared_file.py). Called by swarm.py, neighbours.py and shared_file.py.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import threading

from .model import is_sum, read_json

SUMMARY = "have.json"
LONGEST_SUMMARY = 4 << 20  # bytes
NAME, BITS = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{1,1000000}")


@dataclasses.dataclass
class Chunks:
    """One file's chunks: `digests` has None for each that is missing. `verified`: the whole file had the right sha256; `hub`: this node takes
    the file from the hub now."""

    size: int
    chunk: int
    digests: "list[str | None]"
    verified: bool = False
    hub: bool = False

    def span(self, index: int) -> tuple[int, int]:
        """Return the first byte of a chunk, and its length."""
        start = index * self.chunk
        return start, min(self.chunk, self.size - start)


@dataclasses.dataclass(frozen=True)
class Has:
    """One file in a summary: bit N of `bits` says whether the chunk N is there."""

    bits: int
    verified: bool
    hub: bool

    def has(self, index: int) -> bool:
        return bool(self.bits >> index & 1)

    def count(self) -> int:
        return bin(self.bits).count("1")


def empty(size: int, chunk: int) -> Chunks:
    """Return the chunks of a file of which nothing is there."""
    return Chunks(size, chunk, [None] * -(-size // chunk))


def list_name(path: str) -> str:
    """Return the name of a file's list: a digest, since a file's own name may be as long as a name can be, and have folders."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:40]}.json"


def longest(size: int, chunk: int) -> int:
    """Return the most bytes that a list may have."""
    return 1000 + 70 * -(-size // chunk)


def read_list(data: bytes, size: int, chunk: int) -> "list[str | None]":
    """Return the digests in a list, which may be hostile. Raises ValueError for another form, or a list of another file."""
    value = read_json(data)
    if (
        not isinstance(value, dict)
        or value.keys() != {"size", "chunk", "digests"}
        or not isinstance(value["digests"], list)
    ):
        raise ValueError("has another form")
    digests: list[str | None] = value["digests"]
    if (value["size"], value["chunk"], len(digests)) != (size, chunk, -(-size // chunk)):
        raise ValueError("is of a file of another size, or has chunks of another size")
    if not all(digest is None or is_sum(digest) for digest in digests):
        raise ValueError("has another form")
    return digests


def read_summary(data: bytes, counts: "dict[str, int]") -> dict[str, Has]:
    """Return what a neighbour has of the files whose lists have these names, with so many chunks. Raises ValueError for another form."""
    value = read_json(data)
    if not isinstance(value, dict) or not all(map(NAME.fullmatch, value)):
        raise ValueError("has another form")
    found = {}
    for name, count in counts.items():
        entry = value.get(name.removesuffix(".json"))
        if entry is None:
            continue
        if not isinstance(entry, dict) or entry.keys() != {"have", "verified", "hub"}:
            raise ValueError("has another form")
        have, verified, hub = entry["have"], entry["verified"], entry["hub"]
        if (
            not isinstance(have, str)
            or not BITS.fullmatch(have)
            or not isinstance(verified, bool)
            or not isinstance(hub, bool)
        ):
            raise ValueError("has another form")
        if (bits := int(have, 16)) >> count or (verified and bits != (1 << count) - 1):
            raise ValueError("is of files of another size")
        found[name] = Has(bits, verified, hub)
    return found


class Board:
    """The folder with the lists and the summary of this node. Keeps the entries of files that it does not fetch now."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.lock = folder, threading.Lock()
        try:
            old = read_json((folder / SUMMARY).read_bytes())
        except (OSError, ValueError):
            old = {}
        self.entries: dict[str, object] = dict(old) if isinstance(old, dict) else {}

    def keep(self, paths: "set[str]") -> None:
        """Forget all files but these, and these where they have no list."""
        names = {list_name(path).removesuffix(".json") for path in paths}
        here = {name for name in names if (self.folder / f"{name}.json").is_file()}
        self.entries = {name: entry for name, entry in self.entries.items() if name in here}

    def put(self, path: str, chunks: Chunks, listed: bool = True) -> None:
        """Publish what is there of a file; `listed`: its list, too. Each in one step: a neighbour reads the old or the new one."""
        name = list_name(path)
        bits = sum(1 << index for index, digest in enumerate(chunks.digests) if digest)
        with self.lock:
            self.entries[name.removesuffix(".json")] = {
                "have": f"{bits:x}",
                "verified": chunks.verified,
                "hub": chunks.hub,
            }
            if listed:
                self._write(name, {"size": chunks.size, "chunk": chunks.chunk, "digests": chunks.digests})
            self._write(SUMMARY, self.entries)

    def drop(self, path: str) -> None:
        """Say nothing more of a file."""
        with self.lock:
            self.entries.pop(list_name(path).removesuffix(".json"), None)
            self._write(SUMMARY, self.entries)
            (self.folder / list_name(path)).unlink(missing_ok=True)

    def old(self, path: str, size: int, chunk: int) -> "list[str | None] | None":
        """Return the digests of an earlier run; None without a list."""
        try:
            return read_list((self.folder / list_name(path)).read_bytes(), size, chunk)
        except (OSError, ValueError):
            return None

    def _write(self, name: str, value: object) -> None:
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(value, separators=(",", ":")))
        new.replace(self.folder / name)
