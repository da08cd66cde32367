"""Compare the expected with the actual state of a managed set. Pure.

Called by fleet.provider at a refresh and after a run, and by revert.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.drift import KEYED, PRESENT, Difference


def drift(expected: Mapping[str, Mapping[str, Any]], actual: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return the differences of each thing, in the order of `expected`."""
    # A state of an earlier release has no options: they are not drift.
    new = [name for name in actual if name not in expected and not name.startswith("options of ")]
    return [
        Difference.of(thing, *difference)
        for thing in [*expected, *new]
        for difference in _differences(expected.get(thing) or {}, actual.get(thing) or {})
    ]


def _differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (attribute, expected value, actual value)."""
    if not expected or not actual:
        if expected or actual:
            yield PRESENT, bool(expected), bool(actual)
    elif expected.get("type") != actual.get("type"):
        yield "type", expected.get("type"), actual.get("type")
    else:
        if "sha256" in expected and KEYED in actual:
            # A plain digest of an earlier release cannot be compared with a keyed one. The next run replaces it.
            expected, actual = (
                {key: side[key] for key in side if key not in ("sha256", KEYED)} for side in (expected, actual)
            )
        for key in [*expected, *(name for name in actual if name not in expected)]:
            if expected.get(key) != actual.get(key):
                yield key, *_without_common(expected.get(key), actual.get(key))


def _without_common(expected: Any, actual: Any) -> tuple[Any, Any]:
    """Return two values; of two lists only the items that the other does not have."""
    if not isinstance(expected, list) and not isinstance(actual, list):
        return expected, actual
    left, right = (value if isinstance(value, list) else [] for value in (expected, actual))
    return [item for item in left if item not in right], [item for item in right if item not in left]
