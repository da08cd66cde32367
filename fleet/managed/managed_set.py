"""The managed set of a host: the things that a run declared, and the form of their state. Pure.

The kinds are file (also folders and links), unit, package, sysctl, user, group; and derived ones: the container of a unit that runs
`docker run`, the kernel's arguments, the files of a manifest. Called by reader.py, revert.py, fleet.ansible and fleet.provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import validators

# Values are texts, booleans and lists of texts, which Pulumi does not convert.
# {"file /etc/x": {"type": "file", "mode": "0644", …}, "unit a.service": {"state": "active", …}}; {} is an absent thing.
State = dict[str, dict[str, Any]]

KINDS = ("file", "unit", "package", "sysctl", "user", "group")
# The pattern of names by kind. A run's names come from the answers of Ansible modules on the node.
NAMES = {
    "file": validators.PATHS,
    "unit": validators.UNITS,
    "package": r"[a-z0-9][a-z0-9+.:*-]*",
    "sysctl": r"[A-Za-z0-9_][A-Za-z0-9_./-]*",
    "user": r"[A-Za-z_][A-Za-z0-9_.-]*",
    "group": r"[A-Za-z_][A-Za-z0-9_.-]*",
}
DERIVED = {
    "container": r"[a-zA-Z0-9][a-zA-Z0-9_.-]*",
    "files of": validators.PATHS,
    "kernel started for": validators.PATHS,
    "options of": validators.PATHS,
}
THING = validators.Text(
    f"KIND NAME, of {', '.join(NAMES)}, with an absolute path or a plain name",
    "|".join(f"{kind} (?:{name})" for kind, name in NAMES.items()),
    most=1100,
)
NAMED = validators.Text(
    THING.wanted, "|".join(f"{kind} (?:{name})" for kind, name in {**NAMES, **DERIVED}.items()), most=1100
)
VALUE = validators.Text(most=1 << 16, lines=True)
ATTRIBUTE = validators.Either(
    (VALUE, validators.Flag(), validators.Each(VALUE)), "text, true or false, or a list of texts"
)
# Attributes that revert.py and fleet.impact.effects read.
TEXTS = dict.fromkeys(("of", "type", "mode", "owner", "group", "version", "at_boot", "unit_file"), VALUE)
LISTS = {"drop_ins": validators.Each(VALUE)}
STATE = validators.Table(
    NAMED,
    validators.Both(
        validators.Table(validators.NAME, ATTRIBUTE), validators.Record({}, optional={**TEXTS, **LISTS}, open=True)
    ),
)


@dataclass(frozen=True)
class Declared:
    """Names of managed things, "KIND NAME"; True if a run of ours created the thing, so that a teardown may remove it."""

    things: Mapping[str, bool] = field(default_factory=dict)

    def merge(self, other: "Declared") -> "Declared":
        """Return the things of both; True wins."""
        names = [*self.things, *(name for name in other.things if name not in self.things)]
        return Declared({name: self.things.get(name, False) or other.things.get(name, False) for name in names})

    def to_json(self) -> dict[str, bool]:
        """Return {"KIND NAME": created by us}."""
        return dict(self.things)

    @classmethod
    def from_json(cls, things: Mapping[str, bool]) -> "Declared":
        """Return the set for the JSON of to_json."""
        return cls(dict(things))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Declared":
        """Return the things of a state, to read it again; none counts as created by us."""
        return cls({name: False for name in state if name.split(" ", 1)[0] in KINDS})
