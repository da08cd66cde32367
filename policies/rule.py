"""What a rule is: a pure function from a resource to what is wrong with it, and the words around it.

A rule sees secrets in clear: it never puts a value of one into what it says. Of a value that is not known yet it says
nothing; it is asked again during `up`, before the resource is touched. Used by rules/ and pack.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from policies.context import Context

Level = Literal["mandatory", "advisory"]


@dataclass(frozen=True)
class Violation:
    """What a rule has seen; reason and remedy only where they differ from the rule's own."""

    seen: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule. `holds` says in a sentence what is always so, `reason` why, `remedy` what to do, `source` where that is from.

    `kinds` are the resources that it judges, `reads` those that it needs beside them, which are asked about before.
    `at_end`: it needs outputs, and is asked when all resources are there.
    """

    name: str
    holds: str
    reason: str
    remedy: str
    source: str
    kinds: tuple[str, ...]
    judge: Callable[[Context], Iterator[Violation]]
    level: Level = "mandatory"
    reads: tuple[str, ...] = ()
    at_end: bool = False

    def message(self, violation: Violation) -> str:
        """Return what is told of one violation: seen, reason, remedy."""
        return f"{violation.seen}: {violation.reason or self.reason}\nremedy: {violation.remedy or self.remedy}"
