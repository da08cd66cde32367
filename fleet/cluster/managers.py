"""Field managers: who owns which fields of an object, after server-side apply and after other changes. Pure.

Kubernetes keeps for each manager the set of its fields, as a tree: {"f:spec": {"f:template": {…}}}. Called by workloads.py, dry_run.py and nodes.py.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from fleet import printable

DEEPEST = 64
PLUGIN = "pulumi-kubernetes"  # how the managers of Pulumi's plugin begin


def applier(entries: Sequence[Any]) -> str:
    """Return the manager that has applied an object: that of Pulumi's plugin, else the only one; "" where that is not certain."""
    names = [
        str(entry.get("manager") or "")
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("operation") == "Apply" and not entry.get("subresource")
    ]
    ours = [name for name in names if name.startswith(PLUGIN)]
    return next(iter(ours or (names if len(names) == 1 else [])), "")


def setter(entries: Any, *path: str) -> str:
    """Return the manager that has set a field, and when it last changed one: `kubectl-cordon, 2026-11-30T07:00:00Z`; "" where nobody says so."""
    for entry in entries if isinstance(entries, list) else ():
        fields = entry.get("fieldsV1") if isinstance(entry, Mapping) else None
        for name in path:
            fields = fields.get(f"f:{name}") if isinstance(fields, Mapping) else None
        if fields is not None:
            return printable.short(", ".join(filter(None, (str(entry.get(key) or "") for key in ("manager", "time")))))
    return ""


def joined(entries: Sequence[Any], ours: str) -> list[Any] | None:
    """Return the entries with our manager's fields given to the manager that applies the pod template; None where there is nothing to give.

    As if that manager had applied them itself: its next apply changes them without a conflict, and removes those that it no longer has.
    """
    records = [entry for entry in entries if isinstance(entry, Mapping)]
    own = [entry for entry in records if entry.get("manager") == ours and _is_update(entry)]
    applied = [entry for entry in records if entry.get("operation") == "Apply" and _owns_spec(entry)]
    if not own or len(applied) != 1:
        return None
    target = copy.deepcopy(dict(applied[0]))
    for entry in own:
        target["fieldsV1"] = _union(target["fieldsV1"], entry.get("fieldsV1") or {})
    return [target if entry is applied[0] else entry for entry in records if not any(entry is one for one in own)]


def _is_update(entry: Mapping[str, Any]) -> bool:
    return entry.get("operation") == "Update" and not entry.get("subresource")


def _owns_spec(entry: Mapping[str, Any]) -> bool:
    fields = entry.get("fieldsV1")
    return not entry.get("subresource") and isinstance(fields, Mapping) and "f:spec" in fields


def _union(first: Mapping[str, Any], second: Mapping[str, Any], depth: int = DEEPEST) -> dict[str, Any]:
    """Return the fields of both trees."""
    merged = dict(first)
    for name, below in second.items():
        mine = merged.get(name)
        if isinstance(mine, Mapping) and isinstance(below, Mapping) and depth:
            merged[name] = _union(mine, below, depth - 1)
        else:
            merged.setdefault(name, below)
    return merged
