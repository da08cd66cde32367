"""Reads machines from a separate file, where a source of the stack has `machines: FILE`. Their mistakes name that file.

For fleets of hundreds: Pulumi passes a stack's whole configuration to each policy pack in one environment variable, which Linux limits to
128 KiB. Called by fleet.program.config and `stack_file`; `settings` locates mistakes with it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.stack import user_file


def expand(raw: Mapping[str, Any], folder: Path, file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keys of a stack file with each FILE replaced by its machines, and {key: file} of these.

    `folder` is the stack file's, `file` its name. Raises SettingsError when a FILE is missing or holds no mapping.
    """
    nodes = raw.get("nodes")
    pools = nodes if isinstance(nodes, list) else [nodes]
    files: dict[str, str] = {}
    expanded = []
    for place, pool in enumerate(pools):
        if isinstance(pool, Mapping) and isinstance(name := pool.get("machines"), str):
            key = f"nodes[{place}].machines" if len(pools) > 1 else "nodes.machines"
            files[key] = f"{Path(file).parent}/{name}"
            pool = {**pool, "machines": _machines(folder / name, folder, file, key)}
        expanded.append(pool)
    return {**raw, **({"nodes": expanded if isinstance(nodes, list) else expanded[0]} if "nodes" in raw else {})}, files


def locate(error: errors.SettingsError, inventories: Mapping[str, str]) -> errors.SettingsError:
    """Return a mistake with the file that contains it, and its key in that file."""
    for prefix, file in inventories.items():
        if error.key.startswith(f"{prefix}."):
            error.node = error.file = file
            error.doing = error.key = error.key.removeprefix(f"{prefix}.")
    return error


def _machines(path: Path, folder: Path, file: str, key: str) -> Mapping[str, Any]:
    # a review takes a stack file from a stranger: it may name no other file of the controller
    if os.path.relpath(path, folder).startswith(os.pardir):
        raise errors.SettingsError(file=file, key=key, value=path.name, seen="is outside the folder", allowed=ALLOWED)
    try:
        machines = user_file.read(path, f"{Path(file).parent}/{path.name}", ALLOWED)
    except OSError as error:
        seen = str(error.strerror).lower()
        raise errors.SettingsError(file=file, key=key, value=path.name, seen=seen, allowed=ALLOWED) from None
    if not isinstance(machines, Mapping):
        raise errors.SettingsError(file=file, key=key, value=path.name, seen="holds no machines", allowed=ALLOWED)
    return machines


ALLOWED = "a YAML file in the same folder: a mapping of each machine's name to its keys"
