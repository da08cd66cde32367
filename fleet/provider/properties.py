"""Conversion of Pulumi's protobuf structs to plain dicts and back, and the marker of values that a preview does not know.

Needs protobuf. Called by all of fleet.provider and by the lab's plugins.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2

# An unknown value, in both directions. Source: pulumi/sdk, plugin.UnknownStringValue.
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Props = dict[str, Any]


def to_dict(struct: struct_pb2.Struct) -> Props:
    """Return the struct as a dict with 8000 for 8000.0: protobuf has no integers, JSON and Ansible distinguish them."""
    whole: Props = _whole(json_format.MessageToDict(struct))
    return whole


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the dict as a struct. Tuples become lists."""
    struct = struct_pb2.Struct()
    struct.update(dict(values))
    return struct


def has_unknown(value: Any) -> bool:
    """Return whether the value, or a part of it, is unknown."""
    return any(leaf == UNKNOWN for leaf in leaves(value))


def leaves(value: Any) -> Iterator[Any]:
    """Yield each part of the value that is no mapping and no list."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def readable(value: Any) -> Any:
    """Return the value with `(known later)` for each unknown part."""
    if isinstance(value, Mapping):
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(item) for item in value]
    return "(known later)" if value == UNKNOWN else value


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
