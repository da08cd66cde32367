"""A rule: a pure function from a resource to its violations, and the texts around it.

A rule sees secrets in clear, so it never puts a secret's value into a message. It ignores a value that is not known yet: `up`
calls it again before it changes the resource. Used by rules/ and pack.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from policies.context import Context

Level = Literal["mandatory", "advisory"]


@dataclass(frozen=True)
class Violation:
    """What a rule saw; reason and remedy where they differ from the rule's own."""

    seen: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule: `holds` states it in a sentence, `reason` says why, `remedy` what to do, `source` where it comes from.

    `kinds` are the resources that it checks, `reads` other resources that it needs, which Pulumi registers earlier.
    `at_end`: it needs outputs, so it runs when all resources are registered.
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
        """Return the message for one violation: seen, reason, remedy."""
        return f"{violation.seen}: {violation.reason or self.reason}\nremedy: {violation.remedy or self.remedy}"
