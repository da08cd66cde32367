"""Build the lab's missing images: nodes, the serving image's base, the site. Usage: python -m lab.build [SYSTEM ... | all | kubernetes].

Needs a Docker daemon, and packages from the system's archives and PyPI. Called by `make images`, and by the lab's plugin during a
`pulumi up` without make. Builds two images at once: a download waits for the network while the other unpacks.
"""

import argparse
import fcntl
import sys
import time
from collections.abc import Sequence
from concurrent import futures

from lab import cache
from lab.commands import LabError, say, step
from lab.images import kubernetes, node, rootfs, serving, site
from lab.images.rootfs import Recipe

KUBERNETES = "kubernetes"  # stands for the system of a Kubernetes node
USUAL = ("ubuntu-24.04", "debian-12")  # as in stacks/Pulumi.lab.yaml


def ensure(systems: Sequence[str]) -> None:
    """Build the missing images of these systems' nodes and of their site. Only one build runs on a machine."""
    with (cache.folder() / "build.lock").open("w") as lock, futures.ThreadPoolExecutor(2) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        nodes = [recipe for recipe in _nodes(systems) if not _exists(recipe)]
        site_exists = rootfs.exists(site.tag())
        if site_exists and not nodes:
            return
        rootfs.need("mmdebstrap", "zstd", "g++", "binutils", "curl", "debootstrap")
        running = []
        if not site_exists:
            services = pool.submit(_services)
            running = [services, pool.submit(_site, services)]
        for build in [*running, *(pool.submit(_node, recipe) for recipe in nodes)]:
            build.result()


def _nodes(systems: Sequence[str]) -> list[Recipe]:
    """Return the recipes of the nodes of these systems."""
    recipes = [
        node.recipe(system) for system in sorted({node.available(name) for name in systems if name != KUBERNETES})
    ]
    return [*recipes, *([kubernetes.recipe()] if KUBERNETES in systems else [])]


def _exists(recipe: Recipe) -> bool:
    return rootfs.exists(recipe.tag)


def _services() -> None:
    if not _exists(site.recipe()):
        site.build_services()


def _site(services: "futures.Future[None]") -> None:
    """Build the serving image's base, then push it into the services, which the other thread builds meanwhile."""
    if not _exists(serving.recipe()):
        serving.build()
    services.result()
    site.build()


def _node(recipe: Recipe) -> None:
    with step(f"build the {recipe.name.replace('-', ' ', 1)}"):
        rootfs.build(recipe)


def main() -> None:
    """Build the images of the named systems, or of those in stack lab."""
    names = ["all", KUBERNETES, *node.SUITES]
    options = argparse.ArgumentParser(prog="python -m lab.build", description=main.__doc__)
    options.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"one of {', '.join(names)}")
    systems = options.parse_args().systems or USUAL
    if unknown := [system for system in systems if system not in names]:
        options.error(f"the lab has no node with {unknown[0]}; it has {', '.join(names)}")
    start = time.monotonic()
    try:
        ensure(list(node.SUITES) if "all" in systems else systems)
    except LabError as error:
        sys.exit(f"lab: {error}")
    say(f"images are ready ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
