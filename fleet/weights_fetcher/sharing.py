"""What `fetch` does with neighbours, and `index`: joins the list of the stack's nodes, the TLS of this one and its files to a swarm.

Called by fetch.py, only where the role has neighbours.
"""

import argparse
import concurrent.futures
import os
import pathlib

from . import chunks, neighbours, shared_file, swarm
from .download import Progress
from .hub import File, Hub
from .model import Entry, Model, Wrong, read_record


def fetch(
    options: argparse.Namespace, model: Model, hub: Hub, files: list[File], todo: set[str], progress: Progress
) -> dict[str, str]:
    """Fetch from neighbours and the hub. Return the sha256 of each file that was to do. Raises Wrong."""
    board, places = chunks.Board(pathlib.Path(options.lists)), neighbours.read_places(pathlib.Path(options.neighbours))
    board.keep({file.path for file in files} - todo)
    tls = neighbours.context(pathlib.Path(options.tls))
    others = [neighbours.Neighbour(place, tls) for place in places if place.name != options.name]
    order = swarm.order(options.name, places)
    shared = [shared_file.SharedFile(file, model.incoming / file.path, board, options.chunk) for file in files]
    whole = swarm.Swarm(hub, options.name, order, others, shared, progress)
    whole.keep(todo)
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        for _ in pool.map(lambda one: one.resume(progress), whole.files):
            pass
    try:
        return whole.run(options.parallel, options.patience)
    except (Wrong, OSError):
        os.sync()
        raise


def index(model: Model, lists: pathlib.Path, chunk: int, parallel: int) -> None:
    """Publish the chunk lists of the model's files that have none. Raises Wrong for a file that is not what was verified."""

    board = chunks.Board(lists)

    def one(name: str, entry: Entry) -> str:
        listed = chunks.list_name(name).removesuffix(".json") in board.entries
        wrong = "" if listed else shared_file.index(model.path / name, name, entry.sha256, board, chunk)
        print(f"{name}: {wrong or 'listed'}", flush=True)
        return wrong and f"{name}: {wrong}"

    entries = read_record(model.record(model.path))
    board.keep({*entries})
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        if wrong := "; ".join(filter(None, pool.map(one, entries, entries.values()))):
            raise Wrong(wrong)
