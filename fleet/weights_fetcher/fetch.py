"""fetch|sums|index: download the files of one revision of a model repository into the model's incoming folder, each verified.

Owns the files in DIR/REPOSITORY/.incoming-REVISION until they and their record are complete; model.py prepares that folder and moves it
into place. The role weights runs it as a user that can write nothing else. `sums` prints the value of weights_manifest for the revision,
and writes nothing; `index` publishes the chunk lists of a model that has none. With --neighbours the bytes come from other nodes of the
fleet where these have them (sharing.py). A killed fetch continues where it stopped: a part file has a fixed name, and a Range request gets the rest.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import http.client
import json
import os
import pathlib
import shutil
import sys
import threading
from collections.abc import Callable

from .download import Download, Patience, Progress, Sums, no_space, pieces, with_retries
from .hub import File, Hub
from .model import (
    PART,
    Entry,
    Model,
    Wrong,
    arguments,
    check_names,
    excluded,
    list_files,
    read_record,
    read_sums,
    unchanged,
    write_record,
)

LARGEST_SMALL = 256 << 20  # bytes of a file that is not in LFS; `sums` keeps one in memory


def files_to_fetch(files: list[File], sums: dict[str, str], exclude: list[str]) -> list[File]:
    """Return the files to fetch: the hub's without excluded ones, with the sums of weights_manifest if given. Raises Wrong."""
    chosen = [file for file in files if not excluded(file.path, exclude)]
    check_names([file.path for file in chosen], sums, exclude)
    if not chosen:
        raise Wrong("weights_exclude excludes every file that the hub has of this revision")
    for file in chosen:
        if file.sha256 and sums.get(file.path, file.sha256) != file.sha256:
            raise Wrong(f"{file.path}: the hub says sha256 {file.sha256}, weights_manifest says {sums[file.path]}")
    return [dataclasses.replace(file, sha256=sums.get(file.path, file.sha256)) for file in chosen]


def reuse(model: Model, files: list[File], progress: Progress) -> dict[str, str]:
    """Return the sha256 of each file that is already right: in the incoming folder, or in the present model."""
    entries, digests = read_record(model.record(model.path)), {}
    present = list_files(model.path)
    for file in files:
        target, source = model.incoming / file.path, model.path / file.path
        entry = entries.get(file.path)
        if os.path.lexists(target):
            digest = verified_sum(target, file)
            if not digest:
                target.unlink()
        elif entry is None:
            continue
        elif unchanged(present.get(file.path), entry):
            digest = entry.sha256 if entry.sha256 == (file.sha256 or entry.sha256) else ""
        else:
            digest = verified_sum(source, file) if file.path in present else ""
        if digest:
            digests[file.path] = digest
            progress.complete += 1
            progress.add(file.size, fetched=False)
    return digests


def verified_sum(path: pathlib.Path, file: File) -> str:
    """Return the sha256 of a file on disk if it is the right one, else ""."""
    sums = Sums(file)
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return ""
    for data in pieces(path):
        sums.add(data)
    return "" if sums.wrong() else sums.sha256.hexdigest()


def fetch(
    model: Model,
    hub: Hub,
    files: list[File],
    parallel: int,
    limit: float,
    stop: threading.Event,
    shared: "Callable[[list[File], set[str], Progress], dict[str, str]] | None" = None,
) -> None:
    """Fetch the missing files into the incoming folder, with `shared` from neighbours, too, and write its record. Raises Wrong."""
    model.incoming.mkdir(parents=True, exist_ok=True)
    progress = Progress(sum(file.size for file in files), len(files))
    digests = reuse(model, files, progress)
    todo = [file for file in files if file.path not in digests]
    left = sum(file.size for file in todo) - sum(map(_on_disk, model.incoming.rglob(f"*{PART}")))
    if shutil.disk_usage(model.incoming).free < left:
        raise Wrong(no_space(model.incoming, left))
    if shared:
        digests |= shared(files, {file.path for file in todo}, progress)
    else:
        digests |= _download(model, hub, todo, parallel, limit, stop, progress)
    progress.show()
    write_record(model, {file.path: Entry(file.size, digests[file.path], 0) for file in files}, 0o600)


def _on_disk(part: pathlib.Path) -> int:
    """Return the bytes of a part, which may have holes."""
    state = part.stat()
    return min(state.st_size, state.st_blocks * 512)


def _download(
    model: Model, hub: Hub, todo: list[File], parallel: int, limit: float, stop: threading.Event, progress: Progress
) -> dict[str, str]:
    """Download files from the hub. Return their sha256. Raises Wrong."""
    digests = {}
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        running = {
            pool.submit(Download(hub, file, model.incoming / file.path, Patience(limit, stop), progress).run): file
            for file in todo
        }
        try:
            for future in concurrent.futures.as_completed(running):
                digests[running[future].path] = future.result()
        except (Wrong, OSError):
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            os.sync()
            raise
    return digests


def sums_of(hub: Hub, files: list[File], limit: float) -> dict[str, str]:
    """Return the sha256 of every file: the hub's, or for a small file, which is downloaded and checked against git's id, its own."""
    digests = {}
    for file in files:
        patience = Patience(limit, threading.Event())
        digests[file.path] = file.sha256 or with_retries(file.path, patience, functools.partial(_small, hub, file))
    return digests


def _small(hub: Hub, file: File) -> str:
    """Download a small file and return its sha256. Raises Wrong."""
    if file.size > LARGEST_SMALL:
        raise Wrong(f"{file.path}: {file.size} bytes, and the hub has no sha256 of it")
    sums = Sums(file)
    with hub.file(file.path, 0) as answer:
        sums.add(answer.read(file.size + 1))
    if wrong := sums.wrong():
        raise Wrong(f"{file.path}: {wrong}")
    return sums.sha256.hexdigest()


def command_line() -> argparse.ArgumentParser:
    parser = arguments("fetch", "sums", "index")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--patience", type=float, default=900, metavar="SECONDS")
    parser.add_argument("--token-file", default="")
    parser.add_argument(
        "--neighbours", default="", help="file of the stack's nodes (neighbours.Place); with --name, --tls, --lists"
    )
    parser.add_argument("--name", default="", help="name of this node there")
    parser.add_argument("--tls", default="", help="folder of ca.pem and client.pem")
    parser.add_argument("--chunk", type=int, default=16 << 20, metavar="BYTES", help="the same on all nodes")
    return parser


def main() -> int:
    options = command_line().parse_args()
    os.umask(0o027 if options.lists else 0o077)  # the source reads as a member of the group
    try:
        if options.verb != "sums":
            run(options)
        else:
            with contextlib.redirect_stdout(sys.stderr):  # progress lines are not JSON
                digests = run(options)
            print(json.dumps(digests, indent=1, sort_keys=True))
    except (Wrong, OSError, http.client.HTTPException) as problem:
        print(problem, flush=True, file=sys.stderr if options.verb == "sums" else sys.stdout)
        return 1
    return 0


def run(options: argparse.Namespace) -> dict[str, str]:
    """Fetch, or return the sums."""
    exclude = [pattern for pattern in options.exclude.split(",") if pattern]
    model = Model(pathlib.Path(options.dir), options.repository, options.revision)
    if options.verb == "index":
        from . import sharing  # the pods of a cluster fetch without neighbours, and do not have it

        sharing.index(model, pathlib.Path(options.lists), options.chunk, options.parallel)
        return {}
    stop = threading.Event()
    token = pathlib.Path(options.token_file).read_text().strip() if options.token_file else ""
    hub = Hub(options.endpoint, options.repository, options.revision, token)
    listed = with_retries("the list of files", Patience(options.patience, stop), hub.tree)
    if options.verb == "sums":
        chosen = [file for file in listed if not excluded(file.path, exclude)]
        return sums_of(hub, chosen, options.patience)
    files = files_to_fetch(listed, read_sums(pathlib.Path(options.manifest)), exclude)
    shared = None
    if options.neighbours:
        from . import sharing

        shared = functools.partial(sharing.fetch, options, model, hub)
    fetch(model, hub, files, options.parallel, options.patience, stop, shared)
    return {}
