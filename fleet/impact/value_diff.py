"""Differences between two values of a variable: the changed entries, and each changed leaf in words.

Pure. Called by effects.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Characters of a value in a message; of a longer list only the differences are shown.
WIDTH = 48
# A value of such a name, and the user part of a URL, are masked: a stack file should not have them, and a preview is read by many.
SECRET = "(masked)"
NAME = r"(?i:(?:^|[\W_])(?:api[_-]?key|token|password|secret|credentials?))"
NAMED, ENDS = re.compile(rf"({NAME}[\"']?\s*[:=]\s*).+"), re.compile(rf"{NAME}$")
USER = re.compile(r"://[^/\s@]+@")


def masked(line: str) -> str:
    """Return a text with what follows `name: ` or `name=` of a secret masked, up to the end of its line."""
    return USER.sub(f"://{SECRET}@", NAMED.sub(rf"\1{SECRET}", line))


def entries(old: Any, new: Any) -> list[str]:
    """Return the changed keys of two dictionaries, or items of two lists; a removed one as "-ENTRY"."""
    before, after = _flat(old), _flat(new)
    changed = [name for name in after if name not in before or before[name] != after[name]]
    return [*changed, *(f"-{name}" for name in before if name not in after)]


def _flat(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    items = value if isinstance(value, list) else [] if value is None else [value]
    return {item if isinstance(item, str) else json.dumps(item, sort_keys=True): item for item in items}


def by_name(value: Any) -> Any:
    """Return a list of entries with names as {name: entry}, any other value unchanged."""
    named = isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value)
    return {item["name"]: item for item in value} if named else value


def leaves(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield each changed leaf as `path old -> new`; of a long list the added (+) and the removed (-) items."""
    old, new = by_name(old), by_name(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield from leaves(f"{path}.{key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and max(len(_text(old)), len(_text(new))) > WIDTH:
        differ = entries(old, new)
        signed = [_cut(entry if entry.startswith("-") else f"+{entry}") for entry in differ] or ["in another order"]
        yield f"{path} {', '.join(signed)}"
    elif ENDS.search(path):
        yield f"{path} {' -> '.join('unset' if value is None else SECRET for value in (old, new))}"
    else:
        yield f"{path} {_cut(_text(old))} -> {_cut(_text(new))}"


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) and value else json.dumps(value, sort_keys=True)
    return masked(text)


def _cut(text: str) -> str:
    text = text.replace("\n", "\\n")  # a certificate or a key: a reason is one line
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
