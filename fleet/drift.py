"""Drift: where a managed thing is not as expected. Its data, its form in a state, and its words.

Pure. fleet.managed.differences finds it, fleet.impact says what its repair does to a host, fleet.provider keeps it in the output `drift`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The attribute of a thing that is there or not: True or False.
PRESENT = "present"
# The digest of a file that may hold a secret: on_node_read.py keys it with the node's own.
KEYED = "keyed_sha256"
# What one item of a list is called.
ONE = {
    "drop_ins": "drop-in",
    "groups": "group",
    "arguments": "kernel argument",
    "wrong": "wrong file",
    "environment": "variable",
    "later": "option",
}


@dataclass(frozen=True)
class Difference:
    """One attribute of a managed thing that differs: a key of its state, or PRESENT.

    Of two lists, `expected` and `seen` hold only what the other one lacks. None is an attribute that is not set.
    """

    kind: str
    name: str
    attribute: str  # "" in a state of release 0.1: both values are words, attribute included
    expected: Any
    seen: Any

    @property
    def thing(self) -> str:
        """The name of the thing in a managed set."""
        return f"{self.kind} {self.name}"

    def __str__(self) -> str:
        """Return the line for a user: `file /etc/x (mode 0600, wanted mode 0644)`."""
        return f"{self.thing} ({_words(self.attribute, self.seen)}, wanted {_words(self.attribute, self.expected)})"

    def to_json(self) -> dict[str, Any]:
        """Return {kind, name, attribute, expected, seen}."""
        return asdict(self)

    @classmethod
    def of(cls, thing: str, attribute: str, expected: Any, seen: Any) -> "Difference":
        """Return a difference of the thing that a managed set calls "KIND NAME"; a path may have blanks, other names have none."""
        kind, slash, path = thing.partition(" /")
        if not slash:
            kind, _, name = thing.partition(" ")
        return cls(kind, f"/{path}" if slash else name, attribute, expected, seen)


def recorded(outputs: Mapping[str, Any]) -> list[Difference]:
    """Return the `drift` of a resource's outputs; release 0.1 wrote [{what, expected, seen}] in words."""
    return [
        Difference.of(one["what"], "", one["expected"], one["seen"])
        if "what" in one
        else Difference(one["kind"], one["name"], one["attribute"], one.get("expected"), one.get("seen"))
        for one in outputs.get("drift") or ()
    ]


def _words(attribute: str, value: Any) -> str:
    """Return an attribute with its value in words."""
    name = "sha256" if attribute == KEYED else attribute.replace("_", " ")
    match value:
        case _ if not attribute:
            return str(value)
        case bool() if attribute == PRESENT:
            return "present" if value else "absent"
        case bool():
            return name if value else f"not {name}"
        case list():
            one = ONE.get(attribute, name)
            return f"{one} {', '.join(map(str, value))}" if value else f"no such {one}"
        case _ if attribute == "type":
            return f"a {value}"
        case None:
            return f"{name} not set"
    return f"{name} {str(value)[:12] if name == 'sha256' else value}"
