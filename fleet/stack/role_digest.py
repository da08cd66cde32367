"""The digests of a role's files, as one text with one line per file: a resource depends on them.

One text instead of one property per file: Pulumi marshals, encrypts and logs each property of each call, and a fleet of a hundred
machines had ten thousand of these. `role_vars` writes it at each preview, fleet.impact.effects compares it and names the file that changed.

Comments in a YAML file do not count. In a file that defines variables, each variable has its own line.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Files that describe a role: a change to them changes no machine.
DESCRIBING = {"README.md", "meta/argument_specs.yml", "meta/effects.yml", "meta/text_forms.yml"}
# The start of a line for a default's value, and the files that define variables.
DEFAULT = "defaults/main.yml: "
DEFINING = {"defaults/main.yml", "vars/main.yml"}


def listing(folder: Path) -> str:
    """Return a line for each part of the role in `folder`, sorted: the first 16 hex digits of its sha256, and its path in the folder.

    A variable in a file of DEFINING has the path "FILE: NAME".
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
    """Yield (path, bytes to digest) for each part of one file."""
    parsed = _yaml(content) if name.endswith(".yml") else None
    if name in DEFINING and isinstance(parsed, dict):
        for variable, value in parsed.items():
            yield f"{name}: {variable}", _canonical(value)
    else:
        yield name, content if parsed is None else _canonical(parsed)


def _yaml(content: bytes) -> Any:
    """Return the content of a YAML file; None when it is malformed, which the run itself reports best."""
    import yaml  # slow: code that only compares two listings does not need it

    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return None


def _canonical(value: Any) -> bytes:
    """Return a value as JSON. Keeps the order of keys, which Ansible sees."""
    return json.dumps(value, default=str).encode()


def changed_paths(old: str, new: str) -> list[str]:
    """Return the paths that differ between two listings of a role, sorted."""
    before, after = _read(old), _read(new)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _read(text: str) -> Mapping[str, str]:
    """Return {path: digest} of a listing."""
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
