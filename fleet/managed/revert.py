"""Plan what to revert before the roles run: drift that no task of a role repairs. Pure.

A role restores its own files, settings and packages. It does not see a foreign drop-in, a mask, a held package, a changed owner of a file,
or a container that the unit did not start. playbooks/tasks/revert.yml carries out the plan. Called by fleet.provider for a run after drift.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from fleet.drift import Difference
from fleet.managed import differences
from fleet.managed.managed_set import State

OVERRIDES = ("/etc/systemd/system/", "/run/systemd/system/")
# Roles set the mode of a file that they write, rarely its owner; a module that edits a file sets neither.
ATTRIBUTES = ("mode", "owner", "group")
# Attributes of a container that a start of its unit restores.
VOLATILE = ("running", "image_id")


@dataclass(frozen=True)
class Drifted:
    """Things ("KIND NAME") that drifted, with their expected state and their actual one before the run."""

    things: Set[str] = frozenset()
    expected: State = field(default_factory=dict)
    actual: State = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """Return the variable `revert` of the playbook, if there is something to revert."""
        expected = {name: state for name, state in self.expected.items() if name in self.things}
        actions = plan(expected, self.actual)
        return {"revert": actions} if actions else {}

    def left(self, after: State) -> list[Difference]:
        """Return the drift that the run did not change."""
        same = {name for name in self.things if after.get(name) == self.actual.get(name)}
        expected = {name: state for name, state in self.expected.items() if name in same}
        return differences.drift(expected, {name: state for name, state in after.items() if name in expected})


def plan(expected: State, actual: State) -> dict[str, list[Any]]:
    """Return {files, unmask, restart, containers, unhold: [name], attributes: [{path, mode, owner, group}]} without empty lists."""
    actions: dict[str, list[Any]] = {}
    for thing, state in expected.items():
        kind, _, name = thing.partition(" ")
        for verb, argument in _of_thing(kind, name, state, actual.get(thing) or {}):
            if argument not in actions.setdefault(verb, []):
                actions[verb].append(argument)
    return actions


def _of_thing(
    kind: str, name: str, expected: Mapping[str, Any], actual: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    if not expected or not actual:
        return
    match kind:
        case "unit":
            yield from _of_unit(name, expected, actual)
        case "file" if (
            expected.get("type") == actual.get("type")
            and expected.keys() >= {*ATTRIBUTES}
            and any(expected[key] != actual.get(key) for key in ATTRIBUTES)
        ):
            yield "attributes", {"path": name, **{key: expected[key] for key in ATTRIBUTES}}
        case "package" if actual.get("held") and not expected.get("held"):
            yield "unhold", name
        case "container" if any(expected.get(key) != actual.get(key) for key in {*expected, *actual} - {*VOLATILE}):
            yield "containers", name


def _of_unit(name: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    masked, was_masked = (str(unit.get("at_boot", "")).startswith("masked") for unit in (actual, expected))
    if masked and not was_masked:
        yield "unmask", name
        return
    drop_ins = [entry.rpartition(" ")[0] for entry in expected.get("drop_ins") or ()]
    foreign = [path for entry in actual.get("drop_ins") or () if (path := entry.rpartition(" ")[0]) not in drop_ins]
    if actual.get("unit_file") != expected.get("unit_file") and str(actual.get("unit_file")).startswith(OVERRIDES):
        foreign.append(str(actual["unit_file"]))
    for path in foreign:
        yield "files", path
        yield "restart", name
