#!/usr/bin/python3
"""check|own|fetch: one revision of a model repository, every file verified, switched into place at once.

Owns DIR/REPOSITORY/REVISION (with manifest.json in it) and DIR/REPOSITORY/.incoming-REVISION. Needs Python 3.10 and a hub that answers
/api/models/R/tree/REV and /R/resolve/REV/FILE. Called by the role weights; `check` prints {ready, owned, path, revision, bytes,
files, manifest, why}; `own` gives the model to --owner.
A fetch that was killed goes on where it stopped: a part file has a fixed name, and the rest is asked for with Range.
"""

import argparse
import concurrent.futures
import dataclasses
import errno
import fnmatch
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

CHUNK = 1 << 20


class Wrong(Exception):
    """The fetch cannot go on. The text has what was seen; the role adds what was wanted and what to do next."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file as the hub and our own sums describe it: `sha256` or, for a small file, git's blob id; size in bytes."""

    path: str
    size: int
    sha256: str
    blob: str

    def wrong(self, sums: "Sums") -> str:
        """Return what is wrong with the bytes that were summed, or nothing."""
        if self.sha256 and sums.sha256.hexdigest() != self.sha256:
            return f"sha256 {sums.sha256.hexdigest()}, wanted {self.sha256}"
        if sums.blob and sums.blob.hexdigest() != self.blob:
            return f"git blob {sums.blob.hexdigest()}, wanted {self.blob}"
        return ""


class Sums:
    """sha256 and git's blob id of bytes that arrive one piece after the other."""

    def __init__(self, file: File) -> None:
        self.sha256 = hashlib.sha256()
        self.blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False) if file.blob else None

    def add(self, data: bytes) -> None:
        self.sha256.update(data)
        if self.blob:
            self.blob.update(data)


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and takes the token off a request that leaves the hub's host (its storage signs its own URLs)."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


class Hub:
    """A model hub, or a mirror of one. Errors that will not go away by trying again are raised as Wrong."""

    def __init__(self, endpoint: str, repository: str, revision: str, token: str) -> None:
        self.endpoint, self.repository, self.revision, self.token = endpoint.rstrip("/"), repository, revision, token
        self.opener = urllib.request.build_opener(SameHost)

    def open(self, url: str, start: int = 0) -> http.client.HTTPResponse:
        headers = {"User-Agent": "glm-fleet", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Range": f"bytes={start}-"} if start else {}
        try:
            return self.opener.open(urllib.request.Request(url, headers=headers), timeout=60)
        except urllib.error.HTTPError as problem:
            with problem:
                code = problem.headers.get("X-Error-Code", problem.reason)
            if problem.code in (401, 403, 404, 410):
                raise Wrong(f"{url}: {problem.code} {code}{_hint(problem.code, self.token)}") from None
            raise OSError(f"{url}: {problem.code} {code}") from None

    def tree(self) -> list[File]:
        url = f"{self.endpoint}/api/models/{self.repository}/tree/{self.revision}?recursive=true&expand=false"
        files: list[File] = []
        while url:
            with self.open(url) as answer:
                entries, link = json.load(answer), answer.headers.get("Link", "")
            for entry in entries:
                if entry["type"] == "file":
                    lfs = entry.get("lfs") or {}
                    blob = "" if lfs else entry["oid"]
                    files.append(File(entry["path"], lfs.get("size", entry["size"]), lfs.get("oid", ""), blob))
            url = link[1 : link.index(">")] if 'rel="next"' in link else ""
        return files

    def file(self, path: str, start: int) -> http.client.HTTPResponse:
        return self.open(f"{self.endpoint}/{self.repository}/resolve/{self.revision}/{urllib.parse.quote(path)}", start)


def _hint(code: int, token: str) -> str:
    return (" (a token was sent)" if token else " (no token was sent)") if code in (401, 403) else ""


def wanted(files: list[File], sums: dict[str, str], exclude: list[str]) -> list[File]:
    """Return the files to have: the hub's without the excluded ones, with our own sums in place of the hub's."""
    chosen = [file for file in files if not any(fnmatch.fnmatch(file.path, pattern) for pattern in exclude)]
    if absent := sorted(set(sums) - {file.path for file in chosen}):
        raise Wrong(f"the hub does not have {', '.join(absent)}, which weights_manifest names")
    for file in chosen:
        if file.path.startswith("/") or ".." in file.path.split("/"):
            raise Wrong(f"the hub names a file outside the model's folder: {file.path}")
        if sums.get(file.path) and file.sha256 and sums[file.path] != file.sha256:
            raise Wrong(f"{file.path}: the hub says sha256 {file.sha256}, weights_manifest says {sums[file.path]}")
    return [dataclasses.replace(file, sha256=sums.get(file.path, file.sha256)) for file in chosen]


def room(folder: pathlib.Path, needed: int) -> str:
    """What is said where a file system is full, or would be."""
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
    """Bytes done, told as a line every two seconds: the unit's journal is what a waiting run shows."""

    def __init__(self, total: int, files: int) -> None:
        self.total, self.files, self.done, self.complete, self.told = total, files, 0, 0, 0.0
        self.began, self.first, self.lock = time.monotonic(), 0, threading.Lock()

    def add(self, count: int, fetched: bool = True) -> None:
        with self.lock:
            self.done += count
            self.first += 0 if fetched else count
            if time.monotonic() - self.told >= 2:
                self.tell()

    def tell(self) -> None:
        self.told = time.monotonic()
        speed = (self.done - self.first) / max(self.told - self.began, 0.001) / 1e6
        print(
            f"{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {self.complete} of {self.files} files, {speed:.0f} MB/s",
            flush=True,
        )


def fetch_file(hub: Hub, file: File, target: pathlib.Path, tries: int, progress: Progress) -> str:
    """Bring one file to `target`, whole and verified, and return its sha256. A part that turns out wrong is fetched anew, once."""
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for resumed in (True, False):
        sums = Sums(file)
        if not resumed or (part.exists() and part.stat().st_size > file.size):
            part.unlink(missing_ok=True)
        had = part.stat().st_size if part.exists() else 0
        for data in pieces(part) if had else ():
            sums.add(data)
            progress.add(len(data), fetched=False)
        _download(hub, file, part, sums, tries, progress)
        if not (wrong := file.wrong(sums)):
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(target)
            progress.complete += 1
            return sums.sha256.hexdigest()
        part.unlink()
        if not had:
            break
        progress.add(-file.size, fetched=False)
    raise Wrong(f"{file.path}: {wrong}; the file was removed, the next run fetches it again")


def _download(hub: Hub, file: File, part: pathlib.Path, sums: Sums, tries: int, progress: Progress) -> None:
    """Append to the part what is missing. A broken line is tried again from where it broke; a try that brought bytes counts anew."""
    have, left = part.stat().st_size if part.exists() else 0, tries
    part.touch()
    while have < file.size:
        try:
            with hub.file(file.path, have) as answer, part.open("r+b", buffering=0) as stream:
                if have and answer.status != 206:
                    raise Wrong(
                        f"{file.path}: the server ignores Range (status {answer.status}), so a part cannot go on"
                    )
                stream.seek(have)
                while data := answer.read1(min(CHUNK, file.size - have)):
                    written = stream.write(data)
                    have, left = have + written, tries
                    if written < len(data):  # what fits is written, and only the next write fails
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    sums.add(data)
                    progress.add(len(data))
            if have < file.size:
                raise OSError(f"the line ended at {have} of {file.size} bytes")
        except (OSError, http.client.HTTPException) as problem:
            if getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise Wrong(f"{file.path}: {room(part.parent, file.size - part.stat().st_size)}") from None
            left -= 1
            if left <= 0:
                raise Wrong(f"{file.path}: {problem} ({tries} tries without a byte)") from None
            print(f"{file.path}: {problem}; trying again at {have}", flush=True)
            time.sleep(min(2 ** (tries - left - 1), 30))


class Model:
    """The model's folder, and the manifest that says what was in it when every sum was right."""

    def __init__(self, folder: pathlib.Path, revision: str) -> None:
        self.path, self.revision = folder / revision, revision
        self.incoming = folder / f".incoming-{revision}"
        self.record = self.path / "manifest.json"

    def manifest(self) -> dict:
        try:
            return json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}

    def content(self) -> list[pathlib.Path]:
        """The model's folder and all in it, less our own record."""
        return [self.path, *(path for path in self.path.rglob("*") if path != self.record)]

    def own(self, owner: int, group: int) -> None:
        """Give the model to its reader; nothing of it is read or fetched."""
        for path in self.content():
            os.chown(path, owner, group)

    def owned(self, owner: int, group: int) -> bool:
        """Whether the whole model is its reader's; of one that is not there, that is no question."""
        seen = [path.stat() for path in self.content()] if self.path.exists() else []
        return all((one.st_uid, one.st_gid) == (owner, group) for one in seen)

    def check(self, sums: dict[str, str]) -> dict:
        """Compare sizes and times with the record; nothing is read but metadata. Return what `check` prints."""
        files, why = self.manifest().get("files", {}), ""
        for name, entry in files.items():
            if sums.get(name, entry["sha256"]) != entry["sha256"]:
                why = f"{name} was verified against another sha256"
            elif not self.unchanged(name, entry):
                why = f"{name} is missing or was changed"
        if not files:
            why = "there is no verified model"
        return {
            "ready": not why,
            "why": why,
            "path": str(self.path),
            "revision": self.revision,
            "bytes": sum(entry["size"] for entry in files.values()),
            "files": len(files),
            "manifest": hashlib.sha256(self.record.read_bytes()).hexdigest() if files else "",
        }

    def unchanged(self, name: str, entry: dict) -> bool:
        try:
            seen = (self.path / name).stat()
        except OSError:
            return False
        return (seen.st_size, seen.st_mtime_ns) == (entry["size"], entry["mtime_ns"])

    def fetch(self, hub: Hub, files: list[File], options: argparse.Namespace) -> None:
        """Bring every file into the incoming folder, then switch. Files that are already right are linked, not fetched."""
        owner, group = options.owner
        self.incoming.mkdir(parents=True, exist_ok=True)
        progress = Progress(sum(file.size for file in files), len(files))
        kept = self.keep(files, progress)
        todo = [file for file in files if file.path not in kept]
        self.room(sum(file.size for file in todo))
        with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
            running = {
                pool.submit(fetch_file, hub, file, self.incoming / file.path, options.tries, progress): file
                for file in todo
            }
            try:
                for ended in concurrent.futures.as_completed(running):
                    kept[running[ended].path] = ended.result()
            except Wrong:
                pool.shutdown(wait=False, cancel_futures=True)
                os.sync()
                raise
        progress.tell()
        record = {}
        for file in files:
            path = self.incoming / file.path
            path.chmod(0o640)
            os.chown(path, owner, group)
            record[file.path] = {"size": file.size, "sha256": kept[file.path], "mtime_ns": path.stat().st_mtime_ns}
        text = json.dumps(
            {"repository": hub.repository, "revision": self.revision, "files": record}, indent=1, sort_keys=True
        )
        (self.incoming / "manifest.json").write_text(text + "\n")
        (self.incoming / "manifest.json").chmod(0o644)
        for folder in [self.incoming, *(path for path in self.incoming.rglob("*") if path.is_dir())]:
            folder.chmod(0o750)
            os.chown(folder, owner, group)
        self.switch(set(record) | {"manifest.json"})

    def keep(self, files: list[File], progress: Progress) -> dict[str, str]:
        """Link into the incoming folder what an earlier run left right; return its sha256 by file."""
        recorded, kept = self.manifest().get("files", {}), {}
        for file in files:
            source, target = self.path / file.path, self.incoming / file.path
            entry = recorded.get(file.path, {})
            if target.exists() or (entry and source.exists()):
                sums = Sums(file)
                if (
                    not target.exists()
                    and self.unchanged(file.path, entry)
                    and entry["sha256"] == (file.sha256 or entry["sha256"])
                ):
                    digest = entry["sha256"]
                else:
                    for data in pieces(target if target.exists() else source):
                        sums.add(data)
                    digest = "" if file.wrong(sums) else sums.sha256.hexdigest()
                if digest:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if not target.exists():
                        os.link(source, target)
                    kept[file.path] = digest
                    progress.complete += 1
                    progress.add(file.size, fetched=False)
                else:
                    target.unlink(missing_ok=True)
        return kept

    def room(self, size: int) -> None:
        part = sum(path.stat().st_size for path in self.incoming.rglob("*.part"))
        if shutil.disk_usage(self.incoming).free < size - part:
            raise Wrong(room(self.incoming, size - part))

    def switch(self, names: set[str]) -> None:
        """Put the verified folder where the model is read from. Everything is on disk before its name is."""
        for path in sorted(self.incoming.rglob("*")):
            if path.is_file() and str(path.relative_to(self.incoming)) not in names:
                path.unlink()
        os.sync()
        outgoing = self.path.with_name(f".outgoing-{self.revision}")
        shutil.rmtree(outgoing, ignore_errors=True)
        if self.path.exists():
            self.path.rename(outgoing)
        self.incoming.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        shutil.rmtree(outgoing, ignore_errors=True)


def numbers(text: str) -> tuple[int, int]:
    user, group = text.split(":")
    return int(user), int(group)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["check", "own", "fetch"])
    for name in ("endpoint", "repository", "revision", "dir", "manifest"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--exclude", default="")
    parser.add_argument("--owner", type=numbers, default=(os.getuid(), os.getgid()), metavar="USER:GROUP")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--token-file", default="")
    options = parser.parse_args()
    model = Model(pathlib.Path(options.dir, options.repository), options.revision)
    try:
        sums = json.loads(pathlib.Path(options.manifest).read_text())
    except FileNotFoundError:
        sums = {}
    if options.verb == "check":
        print(json.dumps({**model.check(sums), "owned": model.owned(*options.owner)}))
        return 0
    if options.verb == "own":
        model.own(*options.owner)
        return 0
    try:
        token = pathlib.Path(options.token_file).read_text().strip() if options.token_file else ""
        hub = Hub(options.endpoint, options.repository, options.revision, token)
        model.fetch(hub, wanted(hub.tree(), sums, [p for p in options.exclude.split(",") if p]), options)
    except (Wrong, OSError, http.client.HTTPException) as problem:
        print(problem, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
