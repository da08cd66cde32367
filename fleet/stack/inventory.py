"""Machines in a file of their own: a stack whose pool says `machines: FILE` has them there, and its mistakes are told there.

For fleets of hundreds: Pulumi hands a stack's whole configuration to each policy pack in one variable of the environment, which
Linux bounds at 128 KiB. Opens the file, nothing else. Used by `stack` and `stackfile`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.stack import user_file


def expand(raw: Mapping[str, Any], folder: Path, file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keys of a stack file with the named files' machines in their places, and {key: file} of these.

    `folder` is that of the stack file, `file` its name. SettingsError where a named file is missing or holds no mapping.
    """
    told = raw.get("nodes")
    pools = told if isinstance(told, list) else [told]
    found: dict[str, str] = {}
    whole = []
    for place, pool in enumerate(pools):
        if isinstance(pool, Mapping) and isinstance(name := pool.get("machines"), str):
            key = f"nodes[{place}].machines" if len(pools) > 1 else "nodes.machines"
            found[key] = f"{Path(file).parent}/{name}"
            pool = {**pool, "machines": _machines(folder / name, file, key)}
        whole.append(pool)
    return {**raw, **({"nodes": whole if isinstance(told, list) else whole[0]} if "nodes" in raw else {})}, found


def locate(error: errors.SettingsError, inventories: Mapping[str, str]) -> errors.SettingsError:
    """Return a mistake as one of the file in which it stands."""
    for prefix, file in inventories.items():
        if error.key.startswith(f"{prefix}."):
            error.node = error.file = file
            error.doing = error.key = error.key.removeprefix(f"{prefix}.")
    return error


def _machines(path: Path, file: str, key: str) -> Mapping[str, Any]:
    try:
        told = user_file.read(path, f"{Path(file).parent}/{path.name}", ALLOWED)
    except OSError as error:
        seen = str(error.strerror).lower()
        raise errors.SettingsError(file=file, key=key, value=path.name, seen=seen, allowed=ALLOWED) from None
    if not isinstance(told, Mapping):
        raise errors.SettingsError(file=file, key=key, value=path.name, seen="holds no machines", allowed=ALLOWED)
    return told


ALLOWED = "a YAML file beside this one, with a machine's name and what stands under it in each entry"
