"""The files of a role as one text, a line a file as sha256sum writes it: what of a role a resource depends on.

One text and not a property a file: Pulumi marshals, encrypts and logs each property of each call, and a fleet of a hundred
machines had ten thousand of these. Written by `rolevars` at each preview, read by `effects`, which names the file that changed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

# Files that describe a role; a change of them changes no machine.
DESCRIBING = {"README.md", "meta/argument_specs.yml", "meta/effects.yml"}


def listing(folder: Path) -> str:
    """Return a line for each file of the role in `folder`, sorted by path: the first 16 hex of its sha256, its path there."""
    inside = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return "\n".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}  {name.as_posix()}"
        for name, path in sorted(inside.items())
        if name.as_posix() not in DESCRIBING
        and not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    )


def changed(old: str, new: str) -> list[str]:
    """Return the paths that differ between two listings of a role, sorted."""
    before, after = _read(old), _read(new)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _read(listed: str) -> Mapping[str, str]:
    """Return {path: digest} of a listing."""
    return {name: digest for digest, _, name in (line.partition("  ") for line in listed.splitlines())}
