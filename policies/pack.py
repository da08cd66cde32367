"""The rules applied to one run: which are waived, what was asked before, what is said once for all machines.

No protocol here: resources in, findings out. Needs the stack and today's date. Called by server.py.
"""

import datetime
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from policies.asked import Asked, Props
from policies.rule import Level, Rule
from policies.rules import RULES, machines
from policies.stack import Stack, Waiver

# Rules about one machine read these of its other resources.
REMEMBERED = frozenset({"Node", "Host", "Image"})


# Waivers are told under a name of their own: they are the stack's, and no rule can be asked about them.
WAIVERS = "waivers", "Each waiver names a rule, has a reason and a last day, and is repeated at every preview."


@dataclass(frozen=True)
class Finding:
    """What is told beside a resource: by which rule, what that rule holds, how hard, in which words."""

    rule: str
    holds: str
    level: Level
    message: str


class Pack:
    """The rules in one run on one stack. Asked from several threads at once."""

    def __init__(self, stack: Stack, today: datetime.date, rules: Sequence[Rule] = RULES) -> None:
        self._stack, self._today, self._rules = stack, today, rules
        self._seen: dict[tuple[str, str], Props] = {}
        self._told: set[tuple[str, str]] = set()
        self._by_kind: Mapping[str, Sequence[Rule]] = {
            kind: [rule for rule in rules if kind in rule.kinds and not rule.at_end]
            for kind in {kind for rule in rules for kind in rule.kinds}
        }
        self.at_end = frozenset(kind for rule in rules if rule.at_end for kind in rule.kinds)

    def concerns(self, kind: str) -> bool:
        """Whether any rule judges this kind, or reads it when it judges another."""
        return kind == "Stack" or kind in REMEMBERED or bool(self._by_kind.get(kind))

    def resource(self, asked: Asked) -> Iterator[Finding]:
        """Yield what is to be said of one resource, from its inputs, before anything is done with it."""
        if asked.kind == "Stack":
            yield from self._standing()
        yield from self._judge(self._by_kind.get(asked.kind, ()), asked)
        if asked.kind in REMEMBERED:
            self._seen[asked.kind, asked.name] = asked.inputs

    def outcome(self, asked: Asked) -> Iterator[Finding]:
        """Yield what is to be said of one resource at the end, from its outputs."""
        yield from self._judge([rule for rule in self._rules if rule.at_end and asked.kind in rule.kinds], asked)

    def _judge(self, rules: Sequence[Rule], asked: Asked) -> Iterator[Finding]:
        asked = replace(asked, stack=self._stack, seen=self._seen)
        for rule in rules:
            waiver = self._stack.waivers.get(rule.name)
            for breach in rule.judge(asked):
                message = rule.message(breach)
                if waiver is None:
                    yield Finding(rule.name, rule.holds, rule.level, message)
                elif not self._in_force(waiver):
                    late = f"(its waiver expired on {waiver.expires} and does not count)"
                    yield Finding(rule.name, rule.holds, rule.level, f"{message}\n{late}")
                elif (rule.name, message) not in self._told:  # what 100 machines share is told once
                    self._told.add((rule.name, message))
                    yield Finding(rule.name, rule.holds, "advisory", f"{message}\n({_waived(waiver)})")

    def _standing(self) -> Iterator[Finding]:
        """Yield what every preview repeats: the waivers and the released machines."""
        names = [rule.name for rule in self._rules]
        for name, waiver in self._stack.waivers.items():
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
                wanted = f"did you mean {near[0]}?" if near else "docs/policies.md has their names"
                yield Finding(*WAIVERS, "mandatory", f"waivers.{name}: no rule has this name\nremedy: {wanted}")
            elif self._in_force(waiver):
                yield Finding(*WAIVERS, "advisory", f"{name} is {_waived(waiver)}")
            else:
                late = f"waivers.{name} expired on {waiver.expires} and does not count"
                yield Finding(*WAIVERS, "advisory", f"{late}\nremedy: take it out, or decide again")
        for name, why in self._stack.release.items():
            rule = machines.PROTECTED
            seen = f"{name} is released ({why}): it is no longer protected, and can be replaced or deleted"
            remedy = "take it out of glm-fleet:release when that is done"
            yield Finding(rule.name, rule.holds, "advisory", f"{seen}\nremedy: {remedy}")

    def _in_force(self, waiver: Waiver) -> bool:
        return waiver.expires >= self._today


def _waived(waiver: Waiver) -> str:
    return f"waived until {waiver.expires}: {waiver.reason}"
