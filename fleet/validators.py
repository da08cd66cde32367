"""Forms of what a node says: each says where a value is wrong, what was seen there and what is wanted. Pure.

Owns the kinds of forms, not which value has which: that is reply.py's callers' and fleet.provider.outputs'. A bound belongs to each form, for
the other side chooses the size.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet import printable

WIDTH = 4096  # characters of a text
MANY = 20_000  # entries of a list or mapping: the managed set of a host has hundreds


@dataclass(frozen=True)
class Mistake:
    """Where a value has the wrong form (`at`, as replicas[0].port), what is there, shortened, and what is wanted."""

    at: str
    seen: str
    wanted: str


class Form(Protocol):
    """What a value may be."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""


def _wrong(at: str, value: Any, wanted: str) -> Mistake:
    seen = printable.short(value) if isinstance(value, str) else type(value).__name__
    if isinstance(value, bool | int | float) or value is None:
        seen = printable.short(str(value)) if not isinstance(value, int) or abs(value) < 1 << 63 else "a huge number"
    return Mistake(printable.short(at, 120), seen or "an empty text", wanted)


@dataclass(frozen=True)
class Text:
    """Text of printable characters, of at most `most` of them; with a `pattern`, which all of it matches, in the words `wanted`."""

    wanted: str = ""
    pattern: str = ""
    most: int = WIDTH
    lines: bool = False  # line feeds and tabs may be in it

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        wanted = self.wanted or f"printable text of at most {self.most} characters"
        if not isinstance(value, str) or len(value) > self.most:
            return _wrong(at, value, wanted)
        shown = value.replace("\n", "").replace("\t", "") if self.lines else value
        if printable.plain(shown) != shown or not {"\n", "\t"}.isdisjoint(shown):
            return _wrong(at, value, wanted)
        if self.pattern and not re.fullmatch(self.pattern, value):
            return _wrong(at, value, wanted)
        return None


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = 1 << 53  # what JSON and protobuf keep exactly

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        right = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return None if right else _wrong(at, value, f"a whole number from {self.least} to {self.most}")


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, not infinite."""

    least: float = 0.0
    most: float = 1e12

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number and not math.isnan(value) and self.least <= value <= self.most
        return None if right else _wrong(at, value, f"a number from {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        return None if isinstance(value, bool) else _wrong(at, value, "true or false")


@dataclass(frozen=True)
class Nothing:
    """Null."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        return None if value is None else _wrong(at, value, "nothing")


@dataclass(frozen=True)
class Either:
    """One of several forms; the words of the first tell what is wanted."""

    forms: tuple[Form, ...]
    wanted: str

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return what is wrong with the value, None where nothing is."""
        if any(one.mistake(value, at) is None for one in self.forms):
            return None
        return _wrong(at, value, self.wanted)


@dataclass(frozen=True)
class Both:
    """Two forms, each of which a value must have."""

    first: Form
    second: Form

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return the first mistake in the value, None where nothing is wrong."""
        return self.first.mistake(value, at) or self.second.mistake(value, at)


@dataclass(frozen=True)
class Each:
    """A list of at most `most` values of one form."""

    of: Form
    most: int = MANY

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return the first mistake in the value, None where nothing is wrong."""
        if not isinstance(value, list) or len(value) > self.most:
            seen = f"{len(value)} entries" if isinstance(value, list) else value
            return _wrong(at, seen, f"a list of at most {self.most} entries")
        found = (self.of.mistake(one, f"{at}[{index}]") for index, one in enumerate(value))
        return next((mistake for mistake in found if mistake), None)


@dataclass(frozen=True)
class Table:
    """A mapping of at most `most` names, each of the form `key`, to values of the form `of`."""

    key: Text
    of: Form
    most: int = MANY

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return the first mistake in the value, None where nothing is wrong."""
        if not isinstance(value, Mapping) or len(value) > self.most:
            seen = f"{len(value)} entries" if isinstance(value, Mapping) else value
            return _wrong(at, seen, f"a mapping of at most {self.most} entries")
        for name, one in value.items():
            if mistake := self.key.mistake(name, f"a name in {at}") or self.of.mistake(one, f"{at}[{name!r}]"):
                return mistake
        return None


@dataclass(frozen=True)
class Record:
    """A mapping that has all names of `parts`, each of its form; of `optional` those that are there. Others are refused, but with `open`."""

    parts: Mapping[str, Form]
    optional: Mapping[str, Form] = field(default_factory=dict)
    open: bool = False

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return the first mistake in the value, None where nothing is wrong."""
        wanted = f"a mapping with {', '.join(self.parts)}"
        if not isinstance(value, Mapping):
            return _wrong(at, value, wanted)
        known = {**self.parts, **self.optional}
        prefix = f"{at}." if at else ""
        for name, one in known.items():
            if name not in value and name in self.parts:
                return Mistake(f"{prefix}{name}", "it is missing", wanted)
            if name in value and (mistake := one.mistake(value[name], f"{prefix}{name}")):
                return mistake
        others = [str(name) for name in value if name not in known]
        return None if self.open or not others else _wrong(at, f"{others[0]} in it", wanted)


# Absolute, normalised: no empty part, none that is . or .. ; and no character that a template, a shell or a unit file gives a meaning.
PATHS = r"(?:/(?!\.{1,2}(?:/|$))[\w.+@=~:,%\[\]\\ -]+)+"
PATH = Text(
    "an absolute path of letters, digits and . _ + @ = ~ : , % [ ] -, without . or .. as a part", PATHS, most=1024
)
HEX = {size: Text(f"{size} hex digits", f"[0-9a-f]{{{size}}}", most=size) for size in (12, 32, 40, 64)}
UNITS = r"[A-Za-z0-9:_.\\@-]+\.[a-z]+"
NAME = Text("a name of letters, digits and . _ + - : @", r"[A-Za-z0-9_.][A-Za-z0-9_.+:@-]*", most=255)
WORD = Text(most=200)
# The repository's part of a reference as Docker's grammar has it, then the digest; or the id of an image alone.
DIGEST = r"sha256:[0-9a-f]{64}"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = Text(
    "an image by digest: REPOSITORY@sha256: and 64 hex digits, or sha256: and 64 hex digits",
    rf"(?:(?:{HOST}/)?{COMPONENT}(?:/{COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?@)?{DIGEST}",
    most=512,
)
