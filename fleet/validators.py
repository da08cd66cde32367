"""Validates values that a node sends: each form finds where a value is wrong, what was seen there and what is wanted. Pure.

Owns the kinds of forms; ssh.reply's callers and fleet.provider.outputs choose the form of each value. Every form has a bound, because the
node chooses the size.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fleet import printable

WIDTH = 4096  # default for the characters of a text
MANY = 20_000  # default for the entries of a list or mapping; the managed set of a host has hundreds


@dataclass(frozen=True)
class Mistake:
    """The place of a wrong value (`at`, such as replicas[0].port), the value, shortened, and what is wanted."""

    at: str
    seen: str
    wanted: str


class Form(Protocol):
    """A rule for a value."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        """Return the first mistake in the value, None for a right one."""


def _mistake(at: str, value: Any, wanted: str) -> Mistake:
    seen = printable.short(value) if isinstance(value, str) else type(value).__name__
    if isinstance(value, bool | int | float) or value is None:
        seen = printable.short(str(value)) if not isinstance(value, int) or abs(value) < 1 << 63 else "a huge number"
    return Mistake(printable.short(at, 120), seen or "an empty text", wanted)


@dataclass(frozen=True)
class Text(Form):
    """Text of at most `most` printable characters; `pattern` must match all of it, `wanted` describes the pattern in messages."""

    wanted: str = ""
    pattern: str = ""
    most: int = WIDTH
    lines: bool = False  # allow line feeds and tabs

    def mistake(self, value: Any, at: str) -> Mistake | None:
        if isinstance(value, str) and len(value) <= self.most:
            line = value.replace("\n", "").replace("\t", "") if self.lines else value
            plain = printable.plain(line) == line and {"\n", "\t"}.isdisjoint(line)
            if plain and (not self.pattern or re.fullmatch(self.pattern, value)):
                return None
        return _mistake(at, value, self.wanted or f"printable text of at most {self.most} characters")


@dataclass(frozen=True)
class Whole(Form):
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = 1 << 53  # what JSON and protobuf keep exactly

    def mistake(self, value: Any, at: str) -> Mistake | None:
        right = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return None if right else _mistake(at, value, f"a whole number from {self.least} to {self.most}")


@dataclass(frozen=True)
class Number(Form):
    """A finite number from `least` to `most`."""

    least: float = 0.0
    most: float = 1e12

    def mistake(self, value: Any, at: str) -> Mistake | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number and not math.isnan(value) and self.least <= value <= self.most
        return None if right else _mistake(at, value, f"a number from {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Flag(Form):
    """True or false."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        return None if isinstance(value, bool) else _mistake(at, value, "true or false")


@dataclass(frozen=True)
class Nothing(Form):
    """Null."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        return None if value is None else _mistake(at, value, "nothing")


@dataclass(frozen=True)
class Either(Form):
    """A value of one of several forms; `wanted` describes them in messages."""

    forms: tuple[Form, ...]
    wanted: str

    def mistake(self, value: Any, at: str) -> Mistake | None:
        if any(form.mistake(value, at) is None for form in self.forms):
            return None
        return _mistake(at, value, self.wanted)


@dataclass(frozen=True)
class Both(Form):
    """A value that has both forms."""

    first: Form
    second: Form

    def mistake(self, value: Any, at: str) -> Mistake | None:
        return self.first.mistake(value, at) or self.second.mistake(value, at)


@dataclass(frozen=True)
class Each(Form):
    """A list of at most `most` values of one form."""

    form: Form
    most: int = MANY

    def mistake(self, value: Any, at: str) -> Mistake | None:
        if not isinstance(value, list) or len(value) > self.most:
            seen = f"{len(value)} entries" if isinstance(value, list) else value
            return _mistake(at, seen, f"a list of at most {self.most} entries")
        mistakes = (self.form.mistake(entry, f"{at}[{index}]") for index, entry in enumerate(value))
        return next((mistake for mistake in mistakes if mistake), None)


@dataclass(frozen=True)
class Table(Form):
    """A mapping of at most `most` names of the form `key` to values of the form `form`."""

    key: Text
    form: Form
    most: int = MANY

    def mistake(self, value: Any, at: str) -> Mistake | None:
        if not isinstance(value, Mapping) or len(value) > self.most:
            seen = f"{len(value)} entries" if isinstance(value, Mapping) else value
            return _mistake(at, seen, f"a mapping of at most {self.most} entries")
        for name, entry in value.items():
            if mistake := self.key.mistake(name, f"a name in {at}" if at else "a name") or self.form.mistake(
                entry, f"{at}[{name!r}]"
            ):
                return mistake
        return None


@dataclass(frozen=True)
class Record(Form):
    """A mapping with all names of `parts` and any of `optional`, each of its form; other names only if it is `open`."""

    parts: Mapping[str, Form]
    optional: Mapping[str, Form] = field(default_factory=dict)
    open: bool = False

    def mistake(self, value: Any, at: str) -> Mistake | None:
        wanted = f"a mapping with {', '.join(self.parts)}"
        if not isinstance(value, Mapping):
            return _mistake(at, value, wanted)
        forms = {**self.parts, **self.optional}
        prefix = f"{at}." if at else ""
        for name, form in forms.items():
            if name not in value and name in self.parts:
                return Mistake(f"{prefix}{name}", "it is missing", wanted)
            if name in value and (mistake := form.mistake(value[name], f"{prefix}{name}")):
                return mistake
        others = [str(name) for name in value if name not in forms]
        return None if self.open or not others else _mistake(at, f"{others[0]} in it", wanted)


# Absolute, normalised: no empty part, no . or .. ; no character with a meaning in a template, a shell or a unit file.
PATHS = r"(?:/(?!\.{1,2}(?:/|$))[\w.+@=~:,%\[\]\\ -]+)+"
PATH = Text(
    "an absolute path of letters, digits and . _ + @ = ~ : , % [ ] -, without . or .. as a part", PATHS, most=1024
)
HEX = {size: Text(f"{size} hex digits", f"[0-9a-f]{{{size}}}", most=size) for size in (12, 32, 40, 64)}
UNITS = r"[A-Za-z0-9:_.\\@-]+\.[a-z]+"
NAME = Text("a name of letters, digits and . _ + - : @", r"[A-Za-z0-9_.][A-Za-z0-9_.+:@-]*", most=255)
WORD = Text(most=200)
# A reference by Docker's grammar with a digest, or only the id of an image.
DIGEST = r"sha256:[0-9a-f]{64}"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = Text(
    "an image by digest: REPOSITORY@sha256: and 64 hex digits, or sha256: and 64 hex digits",
    rf"(?:(?:{HOST}/)?{COMPONENT}(?:/{COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?@)?{DIGEST}",
    most=512,
)
