"""What must be undone before the roles run: what somebody did beside them, which a role's own tasks do not see.

A role puts its own files, settings and packages right; it does not know a drop-in of somebody else's, a mask, a held package, a
file's new owner, or a container that is not the unit's. Pure: expected and seen state in (managed.py), what playbooks/tasks/undo.yml undoes out.
Called by `fleet.provider` around a run that mends a drift.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from fleet.drift import Difference
from fleet.managed import differences
from fleet.managed.managed_set import State

OVERRIDES = ("/etc/systemd/system/", "/run/systemd/system/")
# A role that writes a file sets its mode, and seldom its owner; a module that edits one sets neither.
ATTRIBUTES = ("mode", "owner", "group")
# Of a container: what the unit's command line decides. A container that is only gone comes back with its unit.
VOLATILE = ("running", "image_id")


@dataclass(frozen=True)
class Drifted:
    """Things that are not as expected, by name ("KIND NAME"), and how they were seen before the run that mends them."""

    things: Set[str] = frozenset()
    expected: State = field(default_factory=dict)
    seen: State = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What the playbook gets: `undo`, where something must be undone."""
        asked = plan({what: right for what, right in self.expected.items() if what in self.things}, self.seen)
        return {"undo": asked} if asked else {}

    def left(self, after: State) -> list[Difference]:
        """Return the drift that is, after the run, just as it was before it: no role put it back."""
        same = {what for what in self.things if after.get(what) == self.seen.get(what)}
        wanted = {what: right for what, right in self.expected.items() if what in same}
        there = {what: now for what, now in after.items() if what in wanted}
        return differences.drift(wanted, there)


def plan(expected: State, seen: State) -> dict[str, list[Any]]:
    """Return {files, unmask, restart, containers, unhold: [name], attributes: [{path, mode, owner, group}]}, only what holds something."""
    found: dict[str, list[Any]] = {}
    for what, right in expected.items():
        kind, _, name = what.partition(" ")
        for verb, thing in _of(kind, name, right, seen.get(what) or {}):
            if thing not in found.setdefault(verb, []):
                found[verb].append(thing)
    return found


def _of(kind: str, name: str, right: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if not right or not now:
        return
    match kind:
        case "unit":
            yield from _of_unit(name, right, now)
        case "file" if (
            right.get("type") == now.get("type")
            and right.keys() >= {*ATTRIBUTES}
            and any(right[key] != now.get(key) for key in ATTRIBUTES)
        ):
            yield "attributes", {"path": name, **{key: right[key] for key in ATTRIBUTES}}
        case "package" if now.get("held") and not right.get("held"):
            yield "unhold", name
        case "container" if any(right.get(key) != now.get(key) for key in {*right, *now} - {*VOLATILE}):
            yield "containers", name


def _of_unit(name: str, right: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if str(now.get("at_boot", "")).startswith("masked") and not str(right.get("at_boot", "")).startswith("masked"):
        yield "unmask", name
        return
    known = [entry.rpartition(" ")[0] for entry in right.get("drop_ins") or ()]
    added = [path for entry in now.get("drop_ins") or () if (path := entry.rpartition(" ")[0]) not in known]
    if now.get("unit_file") != right.get("unit_file") and str(now.get("unit_file")).startswith(OVERRIDES):
        added.append(str(now["unit_file"]))
    for path in added:
        yield "files", path
        yield "restart", name
