"""What of a node must be the same after a drill: its host key, the weights' files, the image, the files and units on it. Pure.

Called by drill.py with the resources of the stack's state and with what the node prints, before and after. The weights' record has the times of
its files, and the replicas' units name that record: both are new when the weights were fetched again, so their text on the node is compared
without these.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.cli.drill_report import Same
from fleet.cli.table import short

Resources = Mapping[str, Mapping[str, Mapping[str, Any]]]  # {kind: {node: outputs}}
KINDS = ("Host", "Serving")  # those whose files and units are compared; each Gateway has new keys
UNITS = "/etc/systemd/system"
LONGEST = 4 * 2**20  # bytes of a file that is read on the node
SHA256 = re.compile(r"[0-9a-f]{64}")
ATTRIBUTES = ("type", "mode", "owner", "group", "sha256", "state", "enabled")


def of(resources: Resources, node: str, made: bool) -> dict[str, str]:
    """Return {what: a short word for it} of a node. `made`: its source makes the machine, and with it a new host key."""
    connection = resources.get("Node", {}).get(node, {}).get("connection") or {}
    weights, serving = (resources.get(kind, {}).get(node, {}) for kind in ("Weights", "Serving"))
    replicas = serving.get("replicas") or ()
    words = {
        "host key": "of its source" if made and connection.get("host_key") else _digest(connection.get("host_key")),
        "revision of the weights": short(str(weights.get("revision") or "")),
        "image": short(str(serving.get("image") or "")),
        "replicas": ", ".join(str(replica["name"]) for replica in replicas) or "-",
    }
    for kind in KINDS:
        things = _things(resources.get(kind, {}).get(node, {}))
        for unit in units(resources, node):
            things.get(f"file {UNITS}/{unit}", {}).pop("sha256", None)  # see on_node
        for name in ("file", "unit"):
            own = {thing: value for thing, value in things.items() if thing.startswith(f"{name} ")}
            words[f"{name}s of {kind}"] = f"{len(own)}, {_digest(own)}" if own else "none"
    return words


def look(resources: Resources, node: str) -> str:
    """Return the command that prints the weights' record and the text of each replica's unit, a line of base64 each."""
    folder = resources.get("Weights", {}).get(node, {}).get("path") or ""
    paths = (f"{folder}/manifest.json", *(f"{UNITS}/{unit}" for unit in units(resources, node)))
    return "; ".join(f"head -c {LONGEST} {shlex.quote(path)} 2>/dev/null | base64 -w 0; echo" for path in paths)


def on_node(resources: Resources, node: str, text: str) -> dict[str, str]:
    """Return {what: a short word for it} of what the node has printed; "" for what it does not have."""
    manifest = str(resources.get("Weights", {}).get(node, {}).get("manifest") or "")
    record, *texts = (_decoded(line) for line in text.splitlines() or [""])
    sums = _sums(record)
    own = [each.replace(manifest.encode(), b"") if manifest else each for each in texts]
    return {
        "files of the weights": _digest(sums) if sums else "",
        "text of the replicas' units": _digest([each.hex() for each in own]) if own and all(own) else "",
    }


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


def _decoded(line: str) -> bytes:
    """Return what a line of base64 has; nothing where it is none."""
    try:
        return base64.b64decode(line, validate=True)
    except ValueError:
        return b""


def _sums(record: bytes) -> dict[str, str]:
    """Return the sha256 of each file of a record; nothing where it has another form."""
    try:
        files = json.loads(record)["files"]
        sums = {str(name): str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return sums if all(SHA256.fullmatch(value) for value in sums.values()) else {}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12] if value else "-"
