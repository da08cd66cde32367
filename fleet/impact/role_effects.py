"""Reads roles/ROLE/meta/effects.yml: what a changed variable, a changed file, or drift does to a host.

Owns the form of these files. Reads the roles, opens no connection. Called by effects.py and the generator of docs/changes.md.

    variables:             a level, or a level by pattern of an entry ("-*": a removed entry)
    files:                 a level by pattern of a file, or of one variable of vars/main.yml ("vars/main.yml: _name");
                           one of defaults/main.yml has the level of its variable
    drift:                 rules: the level of a difference by `kind`, and optional: pattern of its `name`, `attribute` (one or a list),
                           `expected` or `seen` value
    results:               patterns of the variables and files that decide the resource's outputs; without it all do
    restarts, reloads:     the unit that a restart or a reload affects; "{replicas}" or "{proxies}": all of the host
    reloads_since:         the first version of a package that can reload; older ones restart instead

A level is one of LEVELS, or "may LEVEL": the strongest possible, if only the run can show it. "LEVEL UNIT" is of that one of the host's
proxies alone, and nothing on a host without it. The first matching pattern counts.
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

# The levels that a role may state, the weakest first.
LEVELS = ("none", "reload", "restart", "reboot")


@dataclass(frozen=True)
class Level:
    """One of LEVELS, or of effects.Effect; if not `sure`, the strongest possible. With `unit` it is of this one alone."""

    name: str
    sure: bool = True
    unit: str = ""


NONE = Level("none")
VALUE = Either((Text(), Flag(), Each(Text())), "a text, true or false, or a list of texts")
DRIFT = Each(
    Record(
        {
            "kind": Text(),
            "level": Text("a level, or `may LEVEL`, of a unit", rf"(may )?({'|'.join(LEVELS)})( [\w-]+)?"),
        },
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
    """The level of the differences that match; None matches any value."""

    kind: str
    level: str
    name: str = "*"
    attribute: str | Sequence[str] | None = None
    expected: Any = None
    seen: Any = None

    def matches(self, difference: Difference) -> bool:
        """Return whether the rule matches; an unknown attribute matches."""
        if difference.kind != self.kind or not fnmatch.fnmatchcase(difference.name, self.name):
            return False
        attributes = [self.attribute] if isinstance(self.attribute, str) else self.attribute
        return not difference.attribute or (
            (attributes is None or difference.attribute in attributes)
            and self.expected in (None, difference.expected)
            and self.seen in (None, difference.seen)
        )


@dataclass(frozen=True)
class Statement:
    """The effects that one role states; `defaults` are the default values of its variables."""

    variables: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    drift: Sequence[DriftRule] = ()
    results: Sequence[str] | None = None
    restarts: str = ""
    reloads: str = ""
    reloads_since: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def of_variable(self, name: str, *entries: str) -> Level:
        """Return the level of a variable with these changed entries; "-ENTRY" is a removed one."""
        levels = self.variables[name]
        if isinstance(levels, str):
            return level(levels)
        return strongest(first(levels, entry) or NONE for entry in entries)

    def of_any(self, name: str) -> Level:
        """Return the level of a variable whose changed entries are unknown: the strongest of all entries."""
        texts = self.variables[name]
        if isinstance(texts, str):
            return level(texts)
        levels = {level(text) for text in texts.values()}
        return strongest(levels) if len(levels) == 1 else Level(strongest(levels).name, sure=False)

    def of_file(self, name: str) -> Level:
        """Return the level of a changed file. One without a pattern was removed from the role: the strongest is possible."""
        most = strongest(level(text) for text in self.files.values()).name
        return first(self.files, name) or Level(most, sure=most == "none")

    def of_drift(self, difference: Difference) -> Level | None:
        """Return the level of the first matching rule, or None; for an unknown attribute the strongest possible."""
        levels = [level(rule.level) for rule in self.drift if rule.matches(difference)]
        if levels and not difference.attribute:
            most = strongest(levels).name
            return Level(most, sure=most == "none")
        return levels[0] if levels else None

    def decides(self, name: str) -> bool:
        """Return whether a changed variable or file changes the resource's outputs."""
        return self.results is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.results)

    def all_levels(self) -> list[Level]:
        """Return the levels of all variables and files."""
        by_variable = [[value] if isinstance(value, str) else value.values() for value in self.variables.values()]
        return [level(text) for texts in (*by_variable, self.files.values()) for text in texts]


@functools.cache
def read_statement(roles: Path, role: str) -> Statement:
    """Read one role's effects.yml; a role without one has no effects. Raises SettingsError for a malformed drift rule."""
    import yaml  # a fifth of a plugin's start, which a run without changes does not need

    file, defaults_file = (roles / role / name for name in ("meta/effects.yml", "defaults/main.yml"))
    parts = yaml.safe_load(file.read_text()) if file.exists() else {}
    defaults = yaml.safe_load(defaults_file.read_text()) if defaults_file.exists() else {}
    if mistake := DRIFT.mistake(parts.get("drift", []), "drift"):
        raise errors.SettingsError(
            file=f"roles/{role}/meta/effects.yml", key=mistake.at, seen=mistake.seen, allowed=mistake.wanted
        )
    parts = {**parts, "drift": [DriftRule(**rule) for rule in parts.get("drift", [])]}
    return Statement(**{key: value for key, value in parts.items() if value is not None}, defaults=defaults or {})


def level(text: str) -> Level:
    """Parse `restart`, `may restart`, or one of them with a unit."""
    name, _, unit = text.removeprefix("may ").partition(" ")
    return Level(name, not text.startswith("may "), unit)


def first(patterns: Mapping[str, str], name: str) -> Level | None:
    """Return the level of the first matching pattern, or None."""
    matches = (text for pattern, text in patterns.items() if fnmatch.fnmatchcase(name, pattern))
    return next(map(level, matches), None)


def strongest(levels: Iterable[Level]) -> Level:
    """Return the strongest level, sure before not sure; NONE without levels."""
    return max(levels, key=lambda level: (LEVELS.index(level.name), level.sure), default=NONE)
