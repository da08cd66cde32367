"""Builds what a lab is made of, where it is missing: node images, the serving image's base, the site. `python -m lab.build`.

Needs a Docker Engine, and packages from the system's archives and PyPI. Called by `make images`, and by the lab's plugin for a
`pulumi up` without make. Two things at a time: fetching waits on the network, unpacking on a core.
"""

import fcntl
import sys
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from lab import cache
from lab.commands import LabError, say, step
from lab.images import node, rootfs, serving, site


def ensure(systems: Sequence[str]) -> None:
    """Build what these systems' nodes and their site need and the engine does not hold. One build at a time on a machine."""
    with (cache.folder() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        todo: list[tuple[str, Callable[[], None]]] = []
        if not rootfs.exists(site.tag()):
            todo.append(("the site", _site))
        for system in sorted(set(map(node.available, systems))):
            if not rootfs.exists(node.recipe(system).tag):
                todo.append((f"the node {system}", lambda system=system: _node(system)))  # type: ignore[misc]
        if todo:
            rootfs.need("mmdebstrap", "zstd", "g++", "curl", "debootstrap")
        with futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(build) for _, build in todo]:
                done.result()


def _site() -> None:
    if not rootfs.exists(serving.recipe().tag):
        serving.build()
    site.build()


def _node(system: str) -> None:
    with step(f"build the node {system}"):
        rootfs.build(node.recipe(system))


def main() -> None:
    """Build for every system that a lab node can have."""
    start = time.monotonic()
    try:
        ensure(list(node.SUITES))
    except LabError as error:
        sys.exit(f"lab: {error}")
    say(f"images are ready ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
