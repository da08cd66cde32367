"""The managed set of a host: which things a run declared, and the form of their state.

The kinds are file (folders and links too), unit, package, sysctl, user, group; and what follows from them: the container of a unit that runs
`docker run`, the kernel's arguments, the files of a manifest. Pure. reader.py reads the state, differences.py compares it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import validators

# Values are words, yes/no and lists of words: what passes through Pulumi unchanged.
# {"file /etc/x": {"type": "file", "mode": "0644", …}, "unit a.service": {"state": "active", …}}; {} is an absent thing.
State = dict[str, dict[str, Any]]

KINDS = ("file", "unit", "package", "sysctl", "user", "group")
# What each kind's names may be; the names of a run come from what the node's modules answer.
NAMES = {
    "file": validators.PATHS,
    "unit": validators.UNITS,
    "package": r"[a-z0-9][a-z0-9+.:*-]*",
    "sysctl": r"[A-Za-z0-9_][A-Za-z0-9_./-]*",
    "user": r"[A-Za-z_][A-Za-z0-9_.-]*",
    "group": r"[A-Za-z_][A-Za-z0-9_.-]*",
}
FOLLOWING = {
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
    THING.wanted, "|".join(f"{kind} (?:{name})" for kind, name in {**NAMES, **FOLLOWING}.items()), most=1100
)
VALUE = validators.Text(most=1 << 16, lines=True)
ATTRIBUTE = validators.Either(
    (VALUE, validators.Flag(), validators.Each(VALUE)), "text, true or false, or a list of texts"
)
# Those that undo.py and fleet.impact.effects read.
KNOWN = dict.fromkeys(("of", "type", "mode", "owner", "group", "version", "at_boot", "unit_file"), VALUE)
LISTS = {"drop_ins": validators.Each(VALUE)}
STATE = validators.Table(
    NAMED,
    validators.Both(
        validators.Table(validators.NAME, ATTRIBUTE), validators.Record({}, optional={**KNOWN, **LISTS}, open=True)
    ),
)


@dataclass(frozen=True)
class Declared:
    """Names of managed things, as "KIND NAME"; the value says whether a run of ours made it, so that delete may take it off."""

    things: Mapping[str, bool] = field(default_factory=dict)

    def merge(self, other: "Declared") -> "Declared":
        """Return what either of both declares."""
        names = [*self.things, *(name for name in other.things if name not in self.things)]
        return Declared({name: self.things.get(name, False) or other.things.get(name, False) for name in names})

    def to_json(self) -> dict[str, bool]:
        """Return {"KIND NAME": made by us}."""
        return dict(self.things)

    @classmethod
    def from_json(cls, things: Mapping[str, bool]) -> "Declared":
        """The reverse of to_json."""
        return cls(dict(things))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Declared":
        """Return what must be asked to read this state again; nothing of it counts as made."""
        return cls({what: False for what in state if what.split(" ", 1)[0] in KINDS})
