"""What of a node must be the same after a drill: its host key, the weights' manifest, the image, the files and units on it. Pure.

Called by drill.py with the resources of the stack's state before and after.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.cli.drill_report import Same
from fleet.cli.table import short

Resources = Mapping[str, Mapping[str, Mapping[str, Any]]]  # {kind: {node: outputs}}
KINDS = ("Host", "Serving")  # those whose files and units are compared; each Gateway has new keys
ATTRIBUTES = ("type", "mode", "owner", "group", "sha256", "state", "enabled")


def of(resources: Resources, node: str, made: bool) -> dict[str, str]:
    """Return {what: a short word for it} of a node. `made`: its source makes the machine, and with it a new host key."""
    connection = resources.get("Node", {}).get(node, {}).get("connection") or {}
    weights, serving = (resources.get(kind, {}).get(node, {}) for kind in ("Weights", "Serving"))
    replicas = serving.get("replicas") or ()
    words = {
        "host key": "of its source" if made and connection.get("host_key") else _digest(connection.get("host_key")),
        "revision of the weights": short(str(weights.get("revision") or "")),
        "manifest of the weights": short(str(weights.get("manifest") or "")),
        "image": short(str(serving.get("image") or "")),
        "replicas": ", ".join(str(replica["name"]) for replica in replicas) or "-",
    }
    for kind in KINDS:
        things = _things(resources.get(kind, {}).get(node, {}))
        for name in ("file", "unit"):
            own = {thing: value for thing, value in things.items() if thing.startswith(f"{name} ")}
            words[f"{name}s of {kind}"] = f"{len(own)}, {_digest(own)}" if own else "none"
    return words


def compare(before: Mapping[str, str], after: Mapping[str, str]) -> list[Same]:
    """Return each word of before beside that of after."""
    return [Same(what=what, before=word, after=after.get(what, "-")) for what, word in before.items()]


def units(resources: Resources, node: str) -> Sequence[str]:
    """Return the units of a node's replicas."""
    declared = (resources.get("Serving", {}).get(node, {}).get("managed") or {}).get("declared") or {}
    return sorted(name.removeprefix("unit ") for name in declared if name.startswith("unit "))


def _things(outputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the expected files and units, less what differs from run to run."""
    expected: Mapping[str, Mapping[str, Any]] = (outputs.get("managed") or {}).get("expected") or {}
    return {
        thing: {name: value for name, value in attributes.items() if name in ATTRIBUTES}
        for thing, attributes in expected.items()
        if isinstance(attributes, Mapping)
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12] if value else "-"
