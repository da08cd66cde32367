"""Put values of fleet.stack.served_values into the text of a stack file, for `fleet rollback`; every other line stays. Needs ruamel.yaml."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from fleet import errors
from fleet.cli import stack_edit
from fleet.stack import served_values

# What `fleet pin` adds to a line, LABEL, YYYY-MM-DD: it is wrong beside another value.
LABEL = re.compile(r"(?:;|#) \S+, \d{4}-\d\d-\d\d(?=\n|$)")


def edited(document: stack_edit.Document, wanted: Mapping[served_values.Path, Any], file: str) -> str:
    """Return the text of a stack file whose served values are exactly `wanted`. Raises SettingsError where an alias shares a value."""
    others = _without_served(document.text())
    config = document.content["config"]
    for path in served_values.of(config):
        if path not in wanted:
            holder, parent = _holder(config, path[:-1]), _holder(config, path[:-2])
            alone = len(holder) == 1 and not any(other[:-1] == path[:-1] for other in wanted)
            _remove(*((parent, path[-2]) if alone else (holder, path[-1])))
    for path, value in wanted.items():
        _put(_holder(config, path[:-1]), path[-1], value)
    text = document.text()
    if served_values.of(yaml.safe_load(text)["config"]) != dict(wanted) or _without_served(text) != others:
        raise errors.SettingsError(
            file=file,
            key="config",
            seen="a value that differs is shared by an alias, or has a form that cannot be edited",
            allowed="each value where it is used",
            next="write the values of the diff by hand",
        )
    return text


def _without_served(text: str) -> Any:
    """Return the content of a stack file without its served values."""
    content = yaml.safe_load(text)
    config = content["config"]
    for path in served_values.of(config):
        del _holder(config, path[:-1])[path[-1]]
    for path in served_values.owners(config):
        parent = _holder(config, path[:-1])
        if not parent.get(path[-1]):
            parent.pop(path[-1], None)
    return content


def _holder(config: Any, path: served_values.Path) -> Any:
    """Return the mapping at a path; an absent last one is made."""
    node = config
    if path[:1] == (served_values.NODES,) and len(path) > 1:
        node = next(pool["machines"] for pool in served_values.pools(config) if path[1] in (pool.get("machines") or {}))
        path = path[1:]
    for key in path:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
    return node


def _put(holder: Any, key: Any, value: Any) -> None:
    """Set a value; where both are mappings, or lists of one length, only what differs in them."""
    old = holder[key] if isinstance(holder, list) or key in holder else None
    if isinstance(old, Mapping) and isinstance(value, Mapping) and value:
        for name in [name for name in old if name not in value]:
            _remove(old, name)
        for name, item in value.items():
            _put(old, name, item)
    elif isinstance(old, list) and isinstance(value, list) and len(old) == len(value):
        for place, item in enumerate(value):
            _put(old, place, item)
    elif old is None and isinstance(holder, Mapping) and key not in holder and hasattr(holder, "insert"):
        holder.insert(0, key, value)  # at the end it would stand behind the comment on what follows
    elif old != value or type(old) is bool or type(value) is bool:
        holder[key] = old.__class__(value) if isinstance(value, str) and isinstance(old, str) else value
        _unlabel(holder, key)


def _unlabel(holder: Any, key: Any) -> None:
    """Remove the label that `fleet pin` put beside the earlier value."""
    tokens = holder.ca.items.get(key) if hasattr(holder, "ca") else None
    if tokens and len(tokens) > 2 and tokens[2]:
        token = tokens[2]
        first, newline, rest = token.value.partition("\n")
        token.value = LABEL.sub("", first) + newline + rest
        if not token.value.strip():
            tokens[2] = None


def _remove(holder: Any, key: Any) -> None:
    """Remove a key; the comment on what follows it goes to the key before."""
    names = list(holder)
    place, lines = names.index(key), _following(holder, key)
    del holder[key]
    if lines and place:
        _append(holder, names[place - 1], lines)


def _last(holder: Any, key: Any) -> tuple[Any, Any]:
    """Return mapping or list and key of the last leaf below a key, which has the comment on what follows."""
    value: Any = holder[key]
    while value and hasattr(value, "fa") and not value.fa.flow_style():
        holder, key = value, (len(value) - 1 if isinstance(value, list) else list(value)[-1])
        value = holder[key]
    return holder, key


def _following(holder: Any, key: Any) -> str:
    """Return the lines of comment and the empty lines behind the value of a key."""
    holder, key = _last(holder, key)
    tokens = holder.ca.items.get(key) if hasattr(holder, "ca") else None
    token = next((part for part in tokens or () if part and not isinstance(part, list)), None)
    return str(token.value.partition("\n")[2]) if token else ""


def _append(holder: Any, key: Any, lines: str) -> None:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    holder, key = _last(holder, key)
    place = 0 if isinstance(holder, list) else 2
    tokens = holder.ca.items.setdefault(key, [None] * 4)
    if tokens[place] is None:
        tokens[place] = CommentToken("\n" + lines, CommentMark(0), None)
    else:
        tokens[place].value = tokens[place].value.rstrip("\n") + "\n" + lines
