"""What the roles state about themselves in roles/ROLE/meta/effects.yml: what a change of a variable, of a file, or a drift does to a host.

Pure: reads the roles, opens no connection. Owns the form of these files. Called by `effects`, which puts it into words.

    variables:             a level, or a level by pattern of an entry ("-*": an entry that was taken out)
    files:                 a level by pattern of a file, or of one variable of vars/main.yml ("vars/main.yml: _name");
                           one of defaults/main.yml has the level of its variable
    drift:                 rules: the level of a difference of a thing of one kind, by pattern of its `name`, by its `attribute` (one or a list),
                           by the `expected` or `seen` value; what a rule leaves out may be anything
    results:               what decides the resource's outputs, by pattern of a variable or a file; without it everything does
    restarts, reloads:     what is hit
    reloads_since:         the version from which a package can be reloaded; one before it restarts instead

A level is one of LEVELS, or "may LEVEL": the worst that can come, where that shows only during the run. The first pattern that matches counts.
"""

import fnmatch
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.drift import Difference
from fleet.validators import Each, Either, Flag, Record, Text

# What a role may state, the weakest first.
LEVELS = ("none", "reload", "restart", "reboot")


@dataclass(frozen=True)
class Level:
    """One of LEVELS, or of `fleet.impact.effects`; where it is not `sure`, the worst that can come."""

    name: str
    sure: bool = True


NONE = Level("none")
VALUE = Either((Text(), Flag(), Each(Text())), "a text, true or false, or a list of texts")
DRIFT = Each(
    Record(
        {"kind": Text(), "level": Text("a level, or `may LEVEL`", rf"(may )?({'|'.join(LEVELS)})")},
        optional={
            "name": Text(),
            "attribute": Either((Text(), Each(Text())), "an attribute or a list of them"),
            "expected": VALUE,
            "seen": VALUE,
        },
    )
)


@dataclass(frozen=True)
class DriftRule:
    """The level of some differences; what is None may be anything."""

    kind: str
    level: str
    name: str = "*"
    attribute: str | Sequence[str] | None = None
    expected: Any = None
    seen: Any = None

    def matches(self, one: Difference) -> bool:
        """Return whether it is one of these differences, as far as that is known of it."""
        if one.kind != self.kind or not fnmatch.fnmatchcase(one.name, self.name):
            return False
        attributes = [self.attribute] if isinstance(self.attribute, str) else self.attribute
        return not one.attribute or (
            (attributes is None or one.attribute in attributes)
            and self.expected in (None, one.expected)
            and self.seen in (None, one.seen)
        )


@dataclass(frozen=True)
class Statement:
    """What one role says; `defaults` are the values that its variables have where nobody sets them."""

    variables: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    drift: Sequence[DriftRule] = ()
    results: Sequence[str] | None = None
    restarts: str = ""
    reloads: str = ""
    reloads_since: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def of_variable(self, name: str, *entries: str) -> Level:
        """The level of a changed variable, of these of its entries; one that was taken out is written "-ENTRY"."""
        stated = self.variables[name]
        if isinstance(stated, str):
            return level(stated)
        return worst(first(stated, entry) or NONE for entry in entries)

    def of_any(self, name: str) -> Level:
        """The level of a variable of which no more is known than that it is another: the worst of its entries."""
        stated = self.variables[name]
        if isinstance(stated, str):
            return level(stated)
        found = {level(text) for text in stated.values()}
        return worst(found) if len(found) == 1 else Level(worst(found).name, sure=False)

    def of_file(self, name: str) -> Level:
        """The level of a changed file. What no pattern names is gone from the role: the worst may be."""
        most = worst(level(text) for text in self.files.values()).name
        return first(self.files, name) or Level(most, sure=most == "none")

    def of_drift(self, one: Difference) -> Level | None:
        """The level of the first rule that matches, or None; of an unknown attribute the worst that may be."""
        levels = [level(rule.level) for rule in self.drift if rule.matches(one)]
        if levels and not one.attribute:
            most = worst(levels).name
            return Level(most, sure=most == "none")
        return levels[0] if levels else None

    def decides(self, name: str) -> bool:
        """Whether a changed variable or file gives the resource other results."""
        return self.results is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.results)

    def all_levels(self) -> list[Level]:
        """Every level of a variable or a file."""
        told = [value for one in self.variables.values() for value in ([one] if isinstance(one, str) else one.values())]
        return [level(text) for text in (*told, *self.files.values())]


@functools.cache
def statement(roles: Path, role: str) -> Statement:
    """Read one role's statement; a role without one is said to have no effect. Raises SettingsError for a rule of drift of a wrong form."""
    import yaml  # a fifth of a plugin's start, which a run that changes nothing need not pay

    file, values = (roles / role / name for name in ("meta/effects.yml", "defaults/main.yml"))
    told = yaml.safe_load(file.read_text()) if file.exists() else {}
    defaults = yaml.safe_load(values.read_text()) if values.exists() else {}
    if mistake := DRIFT.mistake(told.get("drift", []), "drift"):
        raise errors.SettingsError(
            file=f"roles/{role}/meta/effects.yml", key=mistake.at, seen=mistake.seen, allowed=mistake.wanted
        )
    told = {**told, "drift": [DriftRule(**one) for one in told.get("drift", [])]}
    return Statement(**{key: value for key, value in told.items() if value is not None}, defaults=defaults or {})


def level(text: str) -> Level:
    """Read `restart` or `may restart`."""
    return Level(text.removeprefix("may "), not text.startswith("may "))


def first(patterns: Mapping[str, str], name: str) -> Level | None:
    """Return the level of the first pattern that matches, or None."""
    matches = (text for pattern, text in patterns.items() if fnmatch.fnmatchcase(name, pattern))
    return next(map(level, matches), None)


def worst(levels: Iterable[Level]) -> Level:
    """Return the strongest; of two that are equal the one that is sure."""
    return max(levels, key=lambda one: (LEVELS.index(one.name), one.sure), default=NONE)
