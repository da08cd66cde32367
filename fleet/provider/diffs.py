"""Differences between two versions of a resource's properties, by Pulumi's property paths.

Pure. Called by the servicer's Diff. A path looks like vars.vllm_flags["max-model-len"] or replicas[0].
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pulumi.runtime.proto import provider_pb2

Kind = provider_pb2.PropertyDiff


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], replace: Collection[str] = ()
) -> dict[str, "Kind.Kind.ValueType"]:
    """Return {property path: kind}; a change at or below a path in `replace` replaces the resource."""
    kinds = {}
    for path, kind in _walk(old, new, ""):
        replaces = any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in replace)
        kinds[path] = Kind.Kind.Value(f"{kind}_REPLACE" if replaces else kind)
    return kinds


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            below = _join(path, key)
            if key not in old:
                yield below, "ADD"
            elif key not in new:
                yield below, "DELETE"
            else:
                yield from _walk(old[key], new[key], below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _walk(left, right, f"{path}[{index}]")
    elif old != new:
        yield path, "UPDATE"


def _join(path: str, key: str) -> str:
    if not key.isidentifier():
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
