"""Drift: a difference between the expected and the actual state of a managed thing. Its data, its form in the state, its words. Pure.

Called by fleet.managed.differences, which finds it, fleet.impact, which predicts its repair, and fleet.provider, for the output `drift`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The attribute for the existence of a thing: True or False.
PRESENT = "present"
# The digest of a file that may contain a secret: an HMAC with the node's key (on_node_read.py).
KEYED = "keyed_sha256"
# The attribute for a node or replica that is drained, in words: no run ends that.
ROTATION = "rotation"
# The attribute for a gateway's certificate that an ACME server has not given, or not renewed, in words: a run asks again.
CERTIFICATE = "certificate"
IN_WORDS = (ROTATION, CERTIFICATE)
# The word for an item of an attribute with a list.
ITEMS = {
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

    Of two lists, `expected` and `seen` have only the items that the other does not. None means not set.
    """

    kind: str
    name: str
    attribute: str  # "" from a state of release 0.1, which has words for both values
    expected: Any
    seen: Any

    @property
    def thing(self) -> str:
        """Return the name of the thing in a managed set."""
        return f"{self.kind} {self.name}"

    def __str__(self) -> str:
        """Return the line for a user: `file /etc/x (mode 0600, wanted mode 0644)`."""
        return f"{self.thing} ({_words(self.attribute, self.seen)}, wanted {_words(self.attribute, self.expected)})"

    def to_json(self) -> dict[str, Any]:
        """Return {kind, name, attribute, expected, seen}."""
        return asdict(self)

    @classmethod
    def of(cls, thing: str, attribute: str, expected: Any, seen: Any) -> "Difference":
        """Return a difference of the thing "KIND NAME"; a kind with blanks has a path as its name."""
        kind, slash, path = thing.partition(" /")
        if not slash:
            kind, _, name = thing.partition(" ")
        return cls(kind, f"/{path}" if slash else name, attribute, expected, seen)


def recorded(outputs: Mapping[str, Any]) -> list[Difference]:
    """Return the output `drift` of a resource; release 0.1 wrote it as [{what, expected, seen}] in words."""
    return [
        Difference.of(entry["what"], "", entry["expected"], entry["seen"])
        if "what" in entry
        else Difference(entry["kind"], entry["name"], entry["attribute"], entry.get("expected"), entry.get("seen"))
        for entry in outputs.get("drift") or ()
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
            item = ITEMS.get(attribute, name)
            return f"{item} {', '.join(map(str, value))}" if value else f"no such {item}"
        case _ if attribute in IN_WORDS:
            return str(value)
        case _ if attribute == "type":
            return f"a {value}"
        case None:
            return f"{name} not set"
    return f"{name} {str(value)[:12] if name == 'sha256' else value}"
