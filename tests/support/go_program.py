"""A server that tests build from pinned Go modules, once: the build is in the lab's cache, by content.

Needs `go`. Called by the support of each such server.
"""

import os
import pathlib
import subprocess

from lab import cache


def build(sources: pathlib.Path, package: str) -> pathlib.Path:
    """Return the program of a package in the module of `sources`, a folder with go.mod and go.sum."""
    target = cache.folder() / f"{sources.name}-{cache.key([sources])}"
    if not target.exists():
        with cache.making(target) as work:
            command = ["go", "build", "-mod=readonly", "-o", str(work / sources.name), package]
            environment = {**os.environ, "GOFLAGS": "", "CGO_ENABLED": "0"}
            subprocess.run(command, cwd=sources, env=environment, check=True, timeout=600)
    return target / sources.name
