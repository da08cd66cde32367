"""Values as Pulumi sends them: protobuf structs to plain dicts and back, whole numbers as int, the unknown value of a preview.

Needs protobuf only. Used by all of fleet/provider.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2

# How an output that is not known yet arrives at preview, and leaves. Source: pulumi/sdk, plugin.UnknownStringValue.
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Props = dict[str, Any]


def to_dict(struct: struct_pb2.Struct) -> Props:
    """Return the struct as a dict; 8000.0 becomes 8000, since JSON and Ansible tell them apart and protobuf does not."""
    whole: Props = _whole(json_format.MessageToDict(struct))
    return whole


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the dict as a struct. Tuples become lists."""
    struct = struct_pb2.Struct()
    struct.update(dict(values))
    return struct


def has_unknown(value: Any) -> bool:
    """Whether the value, or anything in it, is not known yet."""
    return any(leaf == UNKNOWN for leaf in _leaves(value))


def spoken(value: Any) -> Any:
    """Return the value as a person should read it: with words for what is not known yet."""
    if isinstance(value, Mapping):
        return {key: spoken(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spoken(item) for item in value]
    return "(known later)" if value == UNKNOWN else value


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
