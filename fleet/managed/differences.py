"""What differs between the expected and the actual state of a managed set. Pure.

Called by `fleet.provider` at a refresh, and by revert.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What one item of a list is called.
ONE = {
    "drop_ins": "drop-in",
    "groups": "group",
    "arguments": "kernel argument",
    "wrong": "wrong file",
    "environment": "variable",
    "later": "option",
}
# The digest of a file that may hold a secret: on_node_read.py keys it with the node's own.
KEYED = "keyed_sha256"


def drift(expected: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the differences in words: [{what: "file /etc/x", expected: "mode 0644", seen: "mode 0600"}]."""
    # A state that an earlier release wrote knows no options: they are no drift.
    new = [name for name in seen if name not in expected and not name.startswith("options of ")]
    return [
        {"what": what, "expected": right, "seen": wrong}
        for what in [*expected, *new]
        for right, wrong in _differences(expected.get(what) or {}, seen.get(what) or {})
    ]


def _differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not expected and not seen:
        return
    if not expected:
        yield "absent", "present"
    elif not seen:
        yield "present", "absent"
    elif expected.get("type") != seen.get("type"):
        yield f"a {expected.get('type')}", f"a {seen.get('type')}"
    else:
        if "sha256" in expected and KEYED in seen:
            # An earlier release wrote this state with a plain digest: no comparison is possible. The next run of the roles replaces it.
            expected, seen = (
                {key: one[key] for key in one if key not in ("sha256", KEYED)} for one in (expected, seen)
            )
        for key in [*expected, *(name for name in seen if name not in expected)]:
            right, wrong = expected.get(key), seen.get(key)
            if right != wrong:
                yield _said(key, right, wrong), _said(key, wrong, right)


def _said(key: str, value: Any, other: Any) -> str:
    """Return an attribute and its value as words; of a list only what the other one lacks."""
    words = "sha256" if key == KEYED else key.replace("_", " ")
    if isinstance(value, list) or isinstance(other, list):
        extra = [str(item) for item in _items(value) if item not in _items(other)]
        one = ONE.get(key, words)
        return f"{one} {', '.join(extra)}" if extra else f"no such {one}"
    if value is None:
        return f"{words} not set"
    if isinstance(value, bool):
        return words if value else f"not {words}"
    return f"{words} {str(value)[:12] if words == 'sha256' else value}"


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
