"""What a program says about an object: read back from the server, compared with before, hidden where it is secret. Pure.

Called by servicer.py.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"  # of Pulumi's protocol
HIDDEN = ("data", "stringData")
# The paths of each kind that no update can change.
FIXED = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
REPLACE: Mapping[str, tuple[str, ...]] = {
    "ConfigMap": ("data", "binaryData"),
    "Secret": ("type", "data", "stringData"),
    "Job": ("spec.selector", "spec.template"),
    "Deployment": ("spec.selector",),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName"),
    "Service": ("spec.clusterIP", "spec.type"),
}
# Entries of a list have one of these as their key, where each has it.
KEYS = ("name", "mountPath", "containerPort", "port", "key")
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def replace(kind: str) -> tuple[str, ...]:
    """Return the paths of a kind whose change replaces the object."""
    return (*FIXED, *REPLACE.get(kind, ()))


def read_back(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of the program as the live object has them: their drift. What the program does not name is no drift."""
    shown: dict[str, Any] = _shown(wanted, live)
    if wanted.get("kind") == "Secret" and isinstance(texts := wanted.get("stringData"), Mapping):
        now = live.get("data") or {}
        shown["stringData"] = {name: _text(now[name]) for name in texts if name in now}
    return shown


def _shown(wanted: Any, live: Any) -> Any:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return {
            name: _shown(value, live[name]) if name in live else value
            for name, value in wanted.items()
            if name in live or value in ({}, [], None)  # the server drops what is empty
        }
    if isinstance(wanted, list) and isinstance(live, list):
        if key := _key(wanted):
            entries = {entry.get(key): entry for entry in live if isinstance(entry, Mapping)}
            return [_shown(entry, entries[entry[key]]) for entry in wanted if entry[key] in entries]
        pairs = zip(wanted, live, strict=False)
        return [*(_shown(left, right) for left, right in pairs), *live[len(wanted) :]]
    return wanted if same(wanted, live) else live


def _key(entries: list[Any]) -> str | None:
    maps = [entry for entry in entries if isinstance(entry, Mapping)]
    if not maps or len(maps) < len(entries):
        return None
    return next((key for key in KEYS if len({entry.get(key) for entry in maps if key in entry}) == len(entries)), None)


def same(first: Any, second: Any) -> bool:
    """Return whether two values are equal, also as quantities: 1000m is 1, 1024Mi is 1Gi."""
    return bool(first == second) or (_number(first) is not None and _number(first) == _number(second))


def _number(value: Any) -> float | None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(value))
    if not match or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return float(match[1]) * UNITS[match[2] or ""]


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode(errors="replace")
    except binascii.Error:
        return ""


def hidden(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object in Pulumi's form, with what a Secret holds marked as secret, so that no state and no output shows it."""
    if manifest.get("kind") != "Secret":
        return dict(manifest)
    return {
        name: {SIGNATURE: SECRET, "value": value} if name in HIDDEN else value
        for name, value in _without_fields(manifest).items()
    }


def _without_fields(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without the copies of its content that kubectl and the server keep in its metadata."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    return {**manifest, "metadata": metadata}


def clear(value: Any) -> Any:
    """Return a value of the protocol with the content of each secret in its place."""
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET:
            return clear(value.get("value"))
        return {name: clear(below) for name, below in value.items()}
    return [clear(each) for each in value] if isinstance(value, list) else value
