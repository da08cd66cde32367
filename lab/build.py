"""Builds what a lab is made of, where it is missing: node images, the serving image's base, the site. `python -m lab.build`,
with names of systems or `all`.

Needs a Docker Engine, and packages from the system's archives and PyPI. Called by `make images`, and by the lab's plugin for a
`pulumi up` without make. Two things at a time: fetching waits on the network, unpacking on a core.
"""

import argparse
import fcntl
import sys
import time
from collections.abc import Sequence
from concurrent import futures

from lab import cache
from lab.commands import LabError, say, step
from lab.images import node, rootfs, serving, site
from lab.images.rootfs import Recipe

USUAL = ("ubuntu-24.04", "debian-12")  # as in stacks/Pulumi.lab.yaml


def ensure(systems: Sequence[str]) -> None:
    """Build what these systems' nodes and their site need and the engine does not hold. One build at a time on a machine."""
    with (cache.folder() / "build.lock").open("w") as lock, futures.ThreadPoolExecutor(2) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        nodes = [system for system in sorted(set(map(node.available, systems))) if not _there(node.recipe(system))]
        whole = rootfs.exists(site.tag())
        if whole and not nodes:
            return
        rootfs.need("mmdebstrap", "zstd", "g++", "binutils", "curl", "debootstrap")
        running = []
        if not whole:
            services = pool.submit(_services)
            running = [services, pool.submit(_site, services)]
        for done in [*running, *(pool.submit(_node, system) for system in nodes)]:
            done.result()


def _there(recipe: Recipe) -> bool:
    return rootfs.exists(recipe.tag)


def _services() -> None:
    if not _there(site.recipe()):
        site.build_services()


def _site(services: "futures.Future[None]") -> None:
    """The longest: the serving image's base; then its push into the services, which the other thread has built meanwhile."""
    if not _there(serving.recipe()):
        serving.build()
    services.result()
    site.build()


def _node(system: str) -> None:
    with step(f"build the node {system}"):
        rootfs.build(node.recipe(system))


def main() -> None:
    """Build for the systems that are named, or for those of the stack lab."""
    known = ["all", *node.SUITES]
    options = argparse.ArgumentParser(prog="python -m lab.build", description=main.__doc__)
    options.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"one of {', '.join(known)}")
    systems = options.parse_args().systems or USUAL
    if unknown := [system for system in systems if system not in known]:
        options.error(f"no lab node has the system {unknown[0]}; known are {', '.join(known)}")
    start = time.monotonic()
    try:
        ensure(list(node.SUITES) if "all" in systems else systems)
    except LabError as error:
        sys.exit(f"lab: {error}")
    say(f"images are ready ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
