"""What the roles state about themselves in roles/ROLE/meta/effects.yml: what a change of a variable, of a file, or a drift does to a host.

Pure: reads the roles, opens no connection. Owns the form of these files. Called by `effects`, which puts it into words.

    variables:             a level, or a level by pattern of an entry ("-*": an entry that was taken out)
    files:                 a level by pattern of a file, or of one variable of vars/main.yml ("vars/main.yml: _name");
                           one of defaults/main.yml has the level of its variable
    drift:                 a level by pattern of a thing
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

# What a role may state, the weakest first.
LEVELS = ("none", "reload", "restart", "reboot")


@dataclass(frozen=True)
class Level:
    """One of LEVELS, or of `fleet.impact.effects`; where it is not `sure`, the worst that can come."""

    name: str
    sure: bool = True


NONE = Level("none")


@dataclass(frozen=True)
class Statement:
    """What one role says; `defaults` are the values that its variables have where nobody sets them."""

    variables: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    drift: Mapping[str, str] = field(default_factory=dict)
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

    def decides(self, name: str) -> bool:
        """Whether a changed variable or file gives the resource other results."""
        return self.results is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.results)

    def all_levels(self) -> list[Level]:
        """Every level of a variable or a file."""
        told = [value for one in self.variables.values() for value in ([one] if isinstance(one, str) else one.values())]
        return [level(text) for text in (*told, *self.files.values())]


@functools.cache
def statement(roles: Path, role: str) -> Statement:
    """Read one role's statement; a role without one is said to have no effect."""
    import yaml  # a fifth of a plugin's start, which a run that changes nothing need not pay

    file, values = (roles / role / name for name in ("meta/effects.yml", "defaults/main.yml"))
    told = yaml.safe_load(file.read_text()) if file.exists() else {}
    defaults = yaml.safe_load(values.read_text()) if values.exists() else {}
    return Statement(**{key: value for key, value in told.items() if value is not None}, defaults=defaults or {})


def level(text: str) -> Level:
    """Read `restart` or `may restart`."""
    return Level(text.removeprefix("may "), not text.startswith("may "))


def first(patterns: Mapping[str, str], *names: str) -> Level | None:
    """Return the level of the first pattern that matches one of the names, or None."""
    matches = (text for pattern, text in patterns.items() if any(fnmatch.fnmatchcase(name, pattern) for name in names))
    return next(map(level, matches), None)


def worst(levels: Iterable[Level]) -> Level:
    """Return the strongest; of two that are equal the one that is sure."""
    return max(levels, key=lambda one: (LEVELS.index(one.name), one.sure), default=NONE)
