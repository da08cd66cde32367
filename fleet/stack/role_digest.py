"""The files of a role as one text, a line a file as sha256sum writes it: what of a role a resource depends on.

One text and not a property a file: Pulumi marshals, encrypts and logs each property of each call, and a fleet of a hundred
machines had ten thousand of these. Written by `rolevars` at each preview, read by `effects`, which names the file that changed.

Of a file of YAML its content counts and no comment; where it defines variables, each has a line of its own.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Files that describe a role; a change of them changes no machine.
DESCRIBING = {"README.md", "meta/argument_specs.yml", "meta/effects.yml", "meta/text_forms.yml"}
# Files that define variables, and what a line of each begins with.
DEFAULT = "defaults/main.yml: "
DEFINING = {"defaults/main.yml", "vars/main.yml"}


def listing(folder: Path) -> str:
    """Return a line for each part of the role in `folder`, sorted: the first 16 hex of a sha256, and the file's path there.

    A variable of DEFINING is "PATH: NAME".
    """
    inside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    parts = {
        part: content
        for name, path in inside.items()
        if name not in DESCRIBING and not any(word.startswith(".") or word == "__pycache__" for word in name.split("/"))
        for part, content in _parts(name, path.read_bytes())
    }
    return "\n".join(f"{hashlib.sha256(parts[name]).hexdigest()[:16]}  {name}" for name in sorted(parts))


def _parts(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what counts of one file, by the names of its lines."""
    said = _yaml(content) if name.endswith(".yml") else None
    if name in DEFINING and isinstance(said, dict):
        for variable, value in said.items():
            yield f"{name}: {variable}", _plain(value)
    else:
        yield name, content if said is None else _plain(said)


def _yaml(content: bytes) -> Any:
    """Return what a file of YAML says; None for one that is none: the run itself says best why."""
    import yaml  # whoever only compares two listings need not pay for it

    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return None


def _plain(value: Any) -> bytes:
    """Return a value as text of one form; the order of keys is kept, for Ansible sees it."""
    return json.dumps(value, default=str).encode()


def changed(old: str, new: str) -> list[str]:
    """Return the paths that differ between two listings of a role, sorted."""
    before, after = _read(old), _read(new)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _read(listed: str) -> Mapping[str, str]:
    """Return {path: digest} of a listing."""
    return {name: digest for digest, _, name in (line.partition("  ") for line in listed.splitlines())}
