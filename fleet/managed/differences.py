"""What differs between the expected and the actual state of a managed set. Pure.

Called by `fleet.provider` at a refresh, and by revert.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.drift import KEYED, PRESENT, Difference


def drift(expected: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return the differences, thing by thing in the order of `expected`."""
    # A state that an earlier release wrote knows no options: they are no drift.
    new = [name for name in seen if name not in expected and not name.startswith("options of ")]
    return [
        Difference.of(thing, *difference)
        for thing in [*expected, *new]
        for difference in _differences(expected.get(thing) or {}, seen.get(thing) or {})
    ]


def _differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield attribute, expected value, seen value."""
    if not expected or not seen:
        if expected or seen:
            yield PRESENT, bool(expected), bool(seen)
    elif expected.get("type") != seen.get("type"):
        yield "type", expected.get("type"), seen.get("type")
    else:
        if "sha256" in expected and KEYED in seen:
            # An earlier release wrote this state with a plain digest: no comparison is possible. The next run of the roles replaces it.
            expected, seen = (
                {key: one[key] for key in one if key not in ("sha256", KEYED)} for one in (expected, seen)
            )
        for key in [*expected, *(name for name in seen if name not in expected)]:
            right, wrong = expected.get(key), seen.get(key)
            if right != wrong:
                yield key, *_lacking(right, wrong)


def _lacking(right: Any, wrong: Any) -> tuple[Any, Any]:
    """Return two values; of two lists only what the other one lacks."""
    if not isinstance(right, list) and not isinstance(wrong, list):
        return right, wrong
    mine, theirs = (one if isinstance(one, list) else [] for one in (right, wrong))
    return [item for item in mine if item not in theirs], [item for item in theirs if item not in mine]
