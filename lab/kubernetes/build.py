"""Build the lab's Kubernetes programs, once for each content. Usage: python -m lab.kubernetes.build [--previous] [PART ...].

Owns the Go module binaries/, in two versions of Kubernetes: the lab's, and the minor version before it, from which the long tests upgrade a
cluster. Needs go and its module proxy; go.sum locks what that one gives. Called by lab.kubernetes.cluster, by
tests/support/api_server.py and by `make kubernetes`.
"""

import argparse
import fcntl
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab import cache
from lab.commands import LabError, run, say

SOURCES = Path(__file__).with_name("binaries")
# What locks a version: its requirements; their sums are in the file beside it.
PRESENT, PREVIOUS = "go.mod", "previous.mod"
# Each part is one program of several commands: its own folder, and the packages that it shares with others.
PARTS = {
    "min": ("min", "programs"),  # etcd, kube-apiserver: all that a test of objects needs
    "cp": ("cp", "programs"),  # and kube-controller-manager, kube-scheduler, kubectl
    "node": ("node", "programs", "deviceplugin"),  # kubelet, kube-proxy, kubectl, device-plugin
    "pause": ("pause",),
    # For a cluster of own machines: the network, AMD's device plugin and labeller stand in.
    "addons": ("addons", "programs", "deviceplugin", "network", "labeller"),
    "kubeadm": ("kubeadm",),
}
# Unoptimised and without debugging information: a cold build takes about two thirds of the processor's time.
COMPILE = "all=-dwarf=false -N -l"
PATIENCE = 3 * 3600  # seconds of one build: a cold one takes 10 minutes of two idle cores
REQUIRED = re.compile(r"^\tk8s\.io/kubernetes (v\d+\.\d+\.\d+)$", re.MULTILINE)


def version(module: str = PRESENT) -> str:
    """Return the version of Kubernetes."""
    match = REQUIRED.search((SOURCES / module).read_text())
    if match is None:
        raise LabError(f"{SOURCES / module}: it requires no version of k8s.io/kubernetes")
    return match[1]


def binary(part: str, module: str = PRESENT) -> Path:
    """Return the program of a part, which may not exist yet."""
    files = [SOURCES / name for name in (module, module.replace(".mod", ".sum"), *PARTS[part])]
    return cache.folder() / f"kubernetes-{part}-{cache.key(files, COMPILE, _link(module), _go())}" / part


def ensure(*parts: str, module: str = PRESENT) -> list[Path]:
    """Return the programs of these parts; build the missing ones. Only one such build runs on a machine."""
    with (cache.folder() / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in parts:
            if not binary(part, module).exists():
                _build(part, binary(part, module), module)
    return [binary(part, module) for part in parts]


def _build(part: str, program: Path, module: str) -> None:
    say(f"build Kubernetes {version(module)}, part {part} …")
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with cache.making(program.parent) as work:
        command = [
            "go",
            "build",
            "-mod=readonly",
            *([f"-modfile={module}"] if module != PRESENT else []),
            "-trimpath",
            "-buildvcs=false",
            f"-gcflags={COMPILE}",
            f"-ldflags={_link(module)}",
        ]
        command += ["-o", str(work / part), f"./{part}"]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOOS": "linux"}
        process = subprocess.run(
            command, cwd=SOURCES, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines()
            raise LabError(
                f"build Kubernetes, part {part}: go exited with {process.returncode}: " + "\n    ".join(lines[-8:])
            )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    say(f"build Kubernetes, part {part}: done in {time.monotonic() - start:.0f} s, {cpu:.0f} s of processor")


def _link(module: str) -> str:
    """Return the linker's flags: no symbols, and the version as a release has it."""
    _, minor, _ = version(module).split(".")
    settings = {"gitVersion": version(module), "gitMajor": "1", "gitMinor": minor}
    return "-s -w " + " ".join(f"-X k8s.io/component-base/version.{name}={text}" for name, text in settings.items())


def _go() -> str:
    """Return the version and the processor of go, which both change what it builds."""
    if shutil.which("go") is None:
        raise LabError("go: not on PATH\n  wanted: Go 1.26 or later\n  next:   `make go` brings it")
    return run("go", "env", "GOVERSION", "GOARCH")


def main() -> None:
    """Build the named parts, or all."""
    options = argparse.ArgumentParser(prog="python -m lab.kubernetes.build", description=main.__doc__)
    options.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    options.add_argument("--previous", action="store_true", help="of the minor version before the lab's")
    arguments = options.parse_args()
    parts = arguments.parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        options.error(f"Kubernetes has no part {unknown[0]} here; it has {', '.join(PARTS)}")
    try:
        ensure(*parts, module=PREVIOUS if arguments.previous else PRESENT)
    except LabError as error:
        sys.exit(f"lab: {error}")


if __name__ == "__main__":
    main()
