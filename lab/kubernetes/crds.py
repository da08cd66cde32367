"""The definitions of other projects' resources, so that a real API server judges what a stack makes. No controller of them runs.

Needs go and its module proxy; SUM locks what that one gives. Called by lab.kubernetes.cluster and tests/support/api_server.py.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import cache
from lab.commands import LabError


@dataclass(frozen=True)
class Module:
    """A Go module, its checksum as in a go.sum, and the files of it that have definitions."""

    path: str
    version: str
    sum: str
    files: str


MODULES = (
    Module(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        "config/crd/standard/gateway.networking.k8s.io_*.yaml",
    ),
    Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
)
PATIENCE = 600  # seconds of one download


def definitions() -> list[dict[str, Any]]:
    """Return the definitions as objects, fetched once."""
    target = cache.folder() / f"kubernetes-crds-{cache.key([], *map(repr, MODULES))}"
    if not target.exists():
        with cache.making(target) as work:
            for module in MODULES:
                _copy(module, work)
    objects = [each for file in sorted(target.iterdir()) for each in yaml.load_all(file.read_text(), yaml.CSafeLoader)]
    # Beside them lies a rule about their versions, for clusters that are upgraded.
    return [each for each in objects if each["kind"] == "CustomResourceDefinition"]


def _copy(module: Module, target: Path) -> None:
    """Copy the files of a module. Outside of a Go module, go verifies it with the public checksum database, too."""
    name = f"{module.path}@{module.version}"
    command = ["go", "mod", "download", "-json", name]
    process = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False)
    if process.returncode:
        raise LabError(
            f"fetch {name}: go exited with {process.returncode}: {(process.stderr or process.stdout).strip()}"
        )
    download = json.loads(process.stdout)
    if download["Sum"] != module.sum:
        raise LabError(f"fetch {name}: its sum is {download['Sum']}\n  wanted: {module.sum}")
    for file in Path(download["Dir"]).glob(module.files):
        shutil.copyfile(file, target / file.name)
