"""The forms of what an API server sends, and the reading of text in it. Pure.

An API server may be another one than the user thinks, and passes on what nodes, registries and programs in pods say. The readers of this
folder take only what their forms name; free text is short and printable before anything else sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet import printable
from fleet.validators import Each, Flag, Form, Mistake, Record, Table, Text, Whole

NAME = Text("a name of small letters, digits and . : -", r"[a-z0-9]([a-z0-9.:-]*[a-z0-9])?", most=253)
UID = Text("an identifier", r"[A-Za-z0-9-]+", most=128)
WORD = Text("one word", r"[A-Za-z0-9][A-Za-z0-9_.-]*", most=128)
KEY = Text("the key of a label or a resource", r"[A-Za-z0-9][A-Za-z0-9_./-]*", most=320)
TIME = Text("a time, such as 2026-11-30T07:00:00Z", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", most=40)
QUANTITY = Text("a quantity, such as 8 or 64Gi", r"[0-9.]+([eE][0-9]+)?[mkKMGTPEi]*", most=40)
COUNT = Whole(0, 1 << 53)
LONGEST = 1 << 20  # characters of a free text; an object has at most 1.5 MiB


@dataclass(frozen=True)
class Words(Form):
    """Any text; its reader makes it printable."""

    def mistake(self, value: Any, at: str) -> Mistake | None:
        if isinstance(value, str) and len(value) <= LONGEST:
            return None
        return Mistake(at, "a long text" if isinstance(value, str) else type(value).__name__, "a text")


WORDS = Words()
ANY = Record({}, open=True)
RESOURCES = Table(KEY, QUANTITY, most=200)
LABELS = Table(KEY, Text("the value of a label", r"[A-Za-z0-9_.-]*", most=63), most=1000)
ANNOTATIONS = Table(KEY, WORDS, most=1000)
OWNERS = Each(Record({"kind": WORD, "name": NAME, "uid": UID}, {"controller": Flag()}, open=True), most=100)
METADATA = Record(
    {"name": NAME, "uid": UID},
    {
        "namespace": NAME,
        "labels": LABELS,
        "annotations": ANNOTATIONS,
        "generation": COUNT,
        "creationTimestamp": TIME,
        "deletionTimestamp": TIME,
        "ownerReferences": OWNERS,
    },
    open=True,
)
CONDITIONS = Each(
    Record({"type": KEY, "status": WORD}, {"reason": WORDS, "message": WORDS}, open=True),
    most=200,
)


def condition(content: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the condition of this kind in a status; {} without one."""
    return next((each for each in content.get("conditions") or () if each["type"] == kind), {})


def holds(content: Mapping[str, Any], kind: str) -> bool:
    """Return whether a condition of this kind holds."""
    return condition(content, kind).get("status") == "True"


def text(content: Mapping[str, Any], name: str, length: int = 300) -> str:
    """Return a free text of an object on one line, safe on a terminal; "" where it has none."""
    return printable.short(" ".join(str(content.get(name) or "").split()), length)
