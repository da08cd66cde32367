"""Which files of a role differ between two listings of it."""

import pytest

from fleet.plan import rolefiles


@pytest.mark.parametrize(
    ("claim", "old", "new", "changed"),
    [
        ("the same", "1  a\n2  b", "1  a\n2  b", []),
        ("an edited one", "1  a\n2  b", "1  a\n3  b", ["b"]),
        ("a new one", "2  b", "1  a\n2  b", ["a"]),
        ("one that went", "1  a\n2  b", "2  b", ["a"]),
        ("a role that is new to the resource", "", "2  b\n1  a", ["a", "b"]),
        ("a name with a space", "1  a b", "2  a b", ["a b"]),
    ],
)
def test_the_files_that_differ_are_named(claim: str, old: str, new: str, changed: list[str]) -> None:
    assert rolefiles.changed(old, new) == changed, claim
