"""check|prepare|finish|own: manage the model's folder on a node, and the record of its last verification.

Owns DIR/REPOSITORY/REVISION, with the record (manifest.json) in it, and DIR/REPOSITORY/.incoming-REVISION. One file, without imports from
this package: the role weights runs it as root through `python3 -c`, and trusts no file on the node. fetch.py imports it.

    check    print {ready, owned, listed, path, revision, bytes, files, manifest, why}; reads metadata only
    prepare  give the incoming folder to the user that fetches (--fetcher)
    finish   check what that user fetched, give it to --owner, and move it into place
    own      give the model to --owner

Root follows no symbolic link in these folders: a program that reads a hub's answers wrote their content.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import sys
from collections.abc import Collection, Iterator, Mapping

RECORD = "manifest.json"
PART = ".part"  # of a file that is being fetched
LONGEST_RECORD = 64 << 20  # bytes
LONGEST_NAME, LONGEST_PART = 1024, 255 - len(PART)  # bytes; a part is the text between two slashes
LARGEST = 1 << 50  # bytes of one file
SHA256 = re.compile(r"[0-9a-f]{64}")
# Files that a Python process executes when it loads them: modules, native libraries, pickles.
CODE = (".py", ".pyc", ".pyd", ".so", ".sh", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")


class Wrong(Exception):
    """A final problem. The text is what was seen; the role adds wanted and next, but for `remedy`, which replaces next."""

    def __init__(self, seen: str, remedy: str = "") -> None:
        super().__init__(seen)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of the record: size in bytes, sum, and modification time (ns) when it was verified."""

    size: int
    sha256: str
    mtime_ns: int


def plain(text: object, longest: int = 120) -> str:
    """Return untrusted text for a terminal and a journal: printable ASCII, cut off."""
    kept = "".join(letter if " " <= letter <= "~" else "?" for letter in str(text)[: longest + 1])
    return kept if len(kept) <= longest else f"{kept[:longest]}..."


def name_problem(name: object) -> str:
    """Return why a model's folder may not have a file of this name, or ""."""
    if not isinstance(name, str) or not name:
        return "is not a name"
    if not name.isprintable() or "\\" in name:
        return "has characters that no file name needs"
    parts = name.split("/")
    if name.startswith("/") or {"", ".", ".."} & {*parts}:
        return "is outside the model's folder"
    if len(name.encode()) > LONGEST_NAME or any(len(part.encode()) > LONGEST_PART for part in parts):
        return "is too long"
    return f"ends with {PART}, like the fetch's unfinished files" if name.endswith(PART) else ""


def whole(value: object, most: int) -> bool:
    """Return whether a value is a whole number from 0 to `most`; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_sum(value: object) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


def excluded(name: str, exclude: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)


def check_names(names: Collection[str], sums: Mapping[str, str], exclude: Collection[str]) -> None:
    """Compare a list of files with weights_manifest, a closed list. Raises Wrong."""
    named = {name for name in sums if not excluded(name, exclude)}
    if sums and (absent := sorted(named - {*names})):
        raise Wrong(f"the hub does not have {_some(absent)}, which weights_manifest names")
    if sums and (more := sorted({*names} - named)):
        raise Wrong(
            f"weights_manifest does not name {_some(more)}, which the hub has: add the sums, or a pattern to weights_exclude"
        )
    if code := sorted(name for name in names if name.lower().endswith(CODE) and name not in named):
        raise Wrong(
            f"the hub has code: {_some(code)}; name its sha256 in weights_manifest to accept it, "
            "or add a pattern to weights_exclude"
        )


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(map(plain, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_json(data: bytes) -> object:
    """Return the value of JSON text. Raises ValueError, also for too deep a value."""
    try:
        value: object = json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    return value


def read_record(data: bytes) -> dict[str, Entry]:
    """Return the entries of a record by name; {} for another form, so that the model is fetched again."""
    try:
        record = read_json(data)
    except ValueError:
        return {}
    listed = record.get("files") if isinstance(record, dict) else None
    if not isinstance(listed, dict):
        return {}
    entries = {}
    for name, entry in listed.items():
        if name == RECORD or name_problem(name) or not isinstance(entry, dict):
            return {}
        size, sha256, mtime_ns = entry.get("size"), entry.get("sha256"), entry.get("mtime_ns")
        if not (whole(size, LARGEST) and is_sum(sha256) and whole(mtime_ns, 1 << 63)):
            return {}
        entries[name] = Entry(size, sha256, mtime_ns)  # type: ignore[arg-type]
    return entries


def read_sums(path: pathlib.Path) -> dict[str, str]:
    """Return weights_manifest as the role wrote it: sha256 by name. Raises Wrong for a missing file or another form."""
    try:
        sums = read_json(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise Wrong(f"{path}: {problem}") from None
    if not isinstance(sums, dict) or not all(is_sum(sum_) and not name_problem(name) for name, sum_ in sums.items()):
        raise Wrong(f"{path}: not a list of sha256 by file")
    if RECORD in sums:
        raise Wrong(f"weights_manifest names {RECORD}: the record of the fetch has that name, leave it out")
    return sums


def list_files(folder: pathlib.Path) -> dict[str, os.stat_result]:
    """Return the status of everything below a folder but folders, by relative name; follows no link."""
    states = {}
    for place, folders, files in os.walk(folder):
        for name in (*files, *folders):
            path = pathlib.Path(place, name)
            state = path.lstat()
            if not stat.S_ISDIR(state.st_mode):
                states[path.relative_to(folder).as_posix()] = state
    return states


def set_owner(folder: pathlib.Path, owner: int, group: int, file_mode: int, folder_mode: int, keep: str = "") -> None:
    """Set owner and modes of a folder and its files by descriptor, so that a name that changes meanwhile has no effect.

    Only for plain files and folders; not for the file `keep` at the top.
    """
    for place, _, files, descriptor in os.fwalk(folder):
        for name in files:
            if place == str(folder) and name == keep:
                continue
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
            except OSError:  # a link, a socket, or gone
                continue
            try:
                if stat.S_ISREG(os.fstat(file).st_mode):
                    os.fchown(file, owner, group)
                    os.fchmod(file, file_mode)
            finally:
                os.close(file)
        os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, folder_mode)


class Model:
    """The model's folder, and the incoming folder of a fetch."""

    FILE, FOLDER = 0o640, 0o750

    def __init__(self, folder: pathlib.Path, repository: str, revision: str) -> None:
        self.repository, self.revision = repository, revision
        self.path = folder / repository / revision
        self.incoming = self.path.with_name(f".incoming-{revision}")

    def record(self, folder: pathlib.Path) -> bytes:
        """Return the record of a folder, or b"". Reads only a plain file that is not too large."""
        try:
            file = os.open(folder / RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        with os.fdopen(file, "rb") as stream:
            state = os.fstat(file)
            return stream.read() if stat.S_ISREG(state.st_mode) and state.st_size <= LONGEST_RECORD else b""

    def check(self, sums: Mapping[str, str], exclude: Collection[str]) -> dict[str, object]:
        """Compare names, sizes and times with the record and weights_manifest. Return what `check` prints."""
        record = self.record(self.path)
        entries = read_record(record)
        return {
            "ready": not (why := next(self._reasons(entries, sums, exclude), "")),
            "why": why,
            "path": str(self.path),
            "revision": self.revision,
            "bytes": sum(entry.size for entry in entries.values()),
            "files": len(entries),
            "manifest": hashlib.sha256(record).hexdigest() if entries else "",
        }

    def _reasons(
        self, entries: Mapping[str, Entry], sums: Mapping[str, str], exclude: Collection[str]
    ) -> Iterator[str]:
        """Yield why the model is not ready."""
        if not entries:
            yield "no verified model"
            return
        present = list_files(self.path)
        for name, entry in entries.items():
            if sums.get(name, entry.sha256) != entry.sha256:
                yield f"{name} was verified against another sha256"
            if name not in sums and (sums or name.lower().endswith(CODE)):
                yield f"{name} is {'not' if sums else 'code, and not'} in weights_manifest"
            if not unchanged(present.get(name), entry):
                yield f"{name} is missing or was changed"
        for name in sums:
            if name not in entries and not excluded(name, exclude):
                yield f"{name} is in weights_manifest, and missing"
        for name in sorted(present.keys() - entries.keys() - {RECORD}):
            yield f"{plain(name)} is not part of the model"

    def owned(self, owner: int, group: int) -> bool:
        """Return whether the whole model has this owner, group and the right modes; true without a model."""
        for place, folders, files in os.walk(self.path):
            for name in ("", *folders, *files):
                path = pathlib.Path(place, name)
                state = path.lstat()
                mode = self.FOLDER if stat.S_ISDIR(state.st_mode) else self.FILE
                if path != self.path / RECORD and (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) != (
                    owner,
                    group,
                    mode,
                ):
                    return False
        return True

    def own(self, owner: int, group: int) -> None:
        """Set owner, group and modes of the model."""
        set_owner(self.path, owner, group, self.FILE, self.FOLDER, keep=RECORD)

    def listed(self, lists: pathlib.Path) -> bool:
        """Return whether each file of the model has its list of chunks (chunks.list_name)."""
        digests = (hashlib.sha256(name.encode()).hexdigest() for name in read_record(self.record(self.path)))
        return all((lists / f"{digest[:40]}.json").is_file() for digest in digests)

    def prepare(self, fetcher: int, group: int, shared: bool = False) -> None:
        """Make the incoming folder, and give it, with the files of an earlier fetch, to the user that fetches.

        That user reads the present model as a member of the group, and so does the source for neighbours the incoming one where it is
        `shared`. Raises Wrong if it cannot reach these folders.
        """
        if self.path.is_dir():
            self.own(os.geteuid(), group)
        if self.incoming.is_symlink() or (self.incoming.exists() and not self.incoming.is_dir()):
            self.incoming.unlink()
        self.incoming.mkdir(parents=True, exist_ok=True)
        set_owner(self.incoming, fetcher, group, *((self.FILE, self.FOLDER) if shared else (0o600, 0o700)))
        for folder in self.incoming.parents if fetcher not in (0, os.geteuid()) else ():
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise Wrong(
                    f"{folder}: user {fetcher} (weights_fetcher) cannot enter it", f"`chmod o+x {folder}` on the node"
                )

    def finish(self, sums: Mapping[str, str], exclude: Collection[str], owner: int, group: int) -> None:
        """Check the fetched files, take them over, and move them into place. Raises Wrong.

        Files of the record that are not in the incoming folder are right in the present model. Nothing else writes there:
        the unit of the fetch has ended, with all its processes.
        """
        entries = read_record(self.record(self.incoming))
        if not entries:
            raise Wrong(f"{self.incoming}: no record of a fetch")
        check_names(entries.keys(), sums, exclude)
        incoming, present = list_files(self.incoming), list_files(self.path)
        for name, entry in entries.items():
            state = incoming.get(name) or present.get(name)
            if state is None or not stat.S_ISREG(state.st_mode) or state.st_size != entry.size:
                raise Wrong(f"{self.incoming}: {name} is not the file that the record has")
            if name in incoming and state.st_nlink > 1:
                raise Wrong(f"{self.incoming}: {name} has a second name")
            if sums.get(name, entry.sha256) != entry.sha256:
                raise Wrong(f"{name}: sha256 {entry.sha256}, weights_manifest says {sums[name]}")
        for name in incoming.keys() - entries.keys():
            (self.incoming / name).unlink()
        for place, _, _ in os.walk(self.incoming, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                pathlib.Path(place).rmdir()
        for name in sorted(entries):
            if name not in incoming:
                (self.incoming / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path / name, self.incoming / name)
        set_owner(self.incoming, owner, group, self.FILE, self.FOLDER)
        write_record(self, entries, 0o644)
        self.switch()

    def switch(self) -> None:
        """Move the verified folder into place, after a sync."""
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


def unchanged(state: "os.stat_result | None", entry: Entry) -> bool:
    """Return whether a plain file has the size and time of its verification."""
    return (
        state is not None
        and stat.S_ISREG(state.st_mode)
        and (state.st_size, state.st_mtime_ns) == (entry.size, entry.mtime_ns)
    )


def write_record(model: Model, entries: Mapping[str, Entry], mode: int) -> None:
    """Write the record into the incoming folder, with the files' present times."""
    files = {}
    for name, entry in entries.items():
        path = model.incoming / name
        state = (path if os.path.lexists(path) else model.path / name).lstat()
        files[name] = {**dataclasses.asdict(entry), "mtime_ns": state.st_mtime_ns}
    record = {"repository": model.repository, "revision": model.revision, "files": files}
    path = model.incoming / RECORD
    path.unlink(missing_ok=True)
    path.touch(mode, exist_ok=False)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    path.chmod(mode)


def pair(text: str) -> tuple[int, int]:
    user, group = text.split(":")
    return int(user), int(group)


def arguments(*verbs: str) -> argparse.ArgumentParser:
    """Return the parser of the arguments that both programs share: model, folder, sums, owner."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=verbs)
    for name in ("repository", "revision"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--dir", default=".")
    parser.add_argument("--manifest", default="/dev/null", help="weights_manifest: JSON, sha256 by file")
    parser.add_argument("--exclude", default="")
    parser.add_argument("--owner", type=pair, default=(os.getuid(), os.getgid()), metavar="USER:GROUP")
    parser.add_argument("--lists", default="", help="folder of the chunk lists, where neighbours get files")
    parser.add_argument("--fetcher", type=int, default=os.getuid(), metavar="USER")
    return parser


def main() -> int:
    options = arguments("check", "prepare", "finish", "own").parse_args()
    model = Model(pathlib.Path(options.dir), options.repository, options.revision)
    exclude = [pattern for pattern in options.exclude.split(",") if pattern]
    manifest = pathlib.Path(options.manifest)
    if options.verb == "check":
        report = model.check({}, exclude)
        if manifest.exists():  # absent before the first run, when there is no model either
            try:
                report = model.check(read_sums(manifest), exclude)
            except Wrong as problem:
                report |= {"ready": False, "why": str(problem)}
        listed = not options.lists or model.listed(pathlib.Path(options.lists))
        print(json.dumps({**report, "owned": model.owned(*options.owner), "listed": listed}))
    elif options.verb == "prepare":
        model.prepare(options.fetcher, options.owner[1], bool(options.lists))
    elif options.verb == "finish":
        model.finish(read_sums(manifest), exclude, *options.owner)
    else:
        model.own(*options.owner)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Wrong, OSError) as problem:
        remedy = getattr(problem, "remedy", "") or "look at that folder there; without it `pulumi up` fetches again"
        sys.exit(f"{problem}\nwanted: a model's folder that root can take over\nnext: {remedy}")
