"""Says in a preview how a change goes through the nodes in turns: the order, the nodes that serve at the worst moment, the time.

Pure: opens no connection, so that it counts on nodes that all serve. Also owns what needs a turn, for fleet.provider.change_in_turns.
Called by fleet.provider.preview_summary. The golden texts are in tests/unit/golden/impact_forecast_turns.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleet.impact.effects import Effect
from fleet.impact.forecast import INLINE_NAMES, Change, duration, natural

# Kinds of resources with turns, in the order in which a node's are changed, and those that are changed side by side.
KINDS = ("Host", "Image", "Weights", "Serving", "Member")
RANK = {"Host": 0, "Image": 1, "Weights": 1, "Serving": 2, "Member": 1}
# Levels of effects that interrupt what a node serves, also where an effect is not sure.
INTERRUPTING = ("restart", "reboot", "stop", "recreate", "reinstall")
# Pods run on while the kubelet restarts, and a member that is made again has none.
OF_MEMBER = ("upgrade",)


def interrupts(kind: str, effect: Effect) -> bool:
    """Return whether an effect of a kind of resource interrupts what its node serves."""
    return kind in KINDS and effect.level in (OF_MEMBER if kind == "Member" else INTERRUPTING)


@dataclass(frozen=True)
class Course:
    """How a change goes through the nodes, in words: their order, how many serve at the worst moment, the time."""

    order: str
    capacity: str
    time: str

    def __str__(self) -> str:
        return f"{self.order}; {self.capacity}; {self.time}"


@dataclass(frozen=True)
class Turns:
    """The turns of a stack: its nodes that serve, the canary first; how many are out at once; the seconds of hold and drain.

    `canary` is whether the first one must hold before the others begin, `proxies` whether node proxies can drain one replica alone.
    In a cluster of own machines the nodes take pods: its control planes, `planes`, go before the workers, and none holds. `podless` nodes
    take no pods of users.
    """

    order: tuple[str, ...]
    at_once: int = 1
    canary: bool = True
    hold: float = 60
    drain: float = 300
    proxies: bool = False
    planes: tuple[str, ...] = ()
    podless: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the turns as JSON; without a cluster they say nothing about one."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in fields.items() if value or name not in ("planes", "podless")}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Turns":
        """Return the turns from JSON of the right form."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**values)

    def mark(self, changes: Sequence[Change]) -> list[Change]:
        """Return the changes, with `in_turn` for those that take their node out of service. A new Serving serves nothing before."""
        serving = self._serving(changes)
        return [
            replace(change, in_turn=change.node in serving and interrupts(change.kind, change.effect))
            for change in changes
        ]

    def lines(self, changes: Sequence[Change]) -> list[str]:
        """Return the line about the turns of changes that `mark` returned; none without a turn."""
        course = self.course(changes)
        return [str(course)] if course else []

    def course(self, changes: Sequence[Change]) -> "Course | None":
        """Return how changes that `mark` returned go through the nodes; None without a turn."""
        groups: dict[str, list[Change]] = {}
        for change in changes:
            groups.setdefault(change.node, []).append(change)
        groups = {node: group for node, group in groups.items() if any(change.in_turn for change in group)}
        if not groups:
            return None
        by_replica = self.proxies and all(
            change.replicas for group in groups.values() for change in group if change.in_turn
        )
        seconds = {node: _seconds(group, by_replica) for node, group in groups.items()}
        if self.planes:
            return self._of_members(seconds, self._serving(changes))
        serving = self._serving(changes)
        canary = next((node for node in self.order if node in serving), "")
        first = [canary] if canary in seconds else []
        others = sorted((node for node in seconds if node not in first), key=natural)
        return Course(
            f"in turns{', replica by replica' if by_replica else ''}: {self._order(canary, bool(first), others)}",
            _capacity(min(self.at_once, len(others)) or 1, len(serving), by_replica),
            self._time(seconds, first, others, "replica" if by_replica else "node"),
        )

    def _of_members(self, seconds: Mapping[str, float | None], serving: set[str]) -> "Course":
        """Return how the members of a cluster are changed: the control planes one after the other, then the workers."""
        first = [name for name in self.planes if name in seconds]
        others = sorted((name for name in seconds if name not in first), key=natural)
        names = [f"{', '.join(first)}{' one after the other' if len(first) > 1 else ''}"] if first else []
        names += [self._names(others)] if others else []
        alone = " alone" if len(seconds) == 1 else ""
        takers = serving.difference(self.podless)
        out = max(min(self.at_once, len(takers.intersection(others))), min(1, len(takers.intersection(first))))
        left = len(takers) - out
        words = f"{left} of {len(takers)} nodes take{'s' if left == 1 else ''} pods" if left else "no node takes pods"
        drain = f", and at most {duration(self.drain)} a node until its pods have ended"
        return Course(
            f"in turns: {', then '.join(names)}{alone}",
            f"at the worst moment {words}",
            self._measured(seconds, sum(seconds[name] or 0 for name in first), others, drain),
        )

    def _serving(self, changes: Sequence[Change]) -> set[str]:
        """Return the nodes that serve before the change."""
        new = {
            change.node
            for change in changes
            if change.effect.level == "new" and {"Serving", "Member"} & {*change.effect.what}
        }
        return {*self.order} - new

    def _names(self, others: Sequence[str]) -> str:
        """Return the nodes after the first, and how many of them are changed at once."""
        names = ", ".join(others) if len(others) <= INLINE_NAMES else f"{len(others)} nodes"
        if len(others) > self.at_once:
            return f"{names} {'one' if self.at_once == 1 else self.at_once} at a time"
        return f"{names} at once" if len(others) > 1 else names

    def _order(self, canary: str, first: bool, others: Sequence[str]) -> str:
        """Return who is changed when; `first` is whether the canary is changed."""
        names = self._names(others)
        if not first:
            names = names if len(others) > 1 else f"{names} alone"
            return f"{names} (no canary: {canary} is not changed)" if self.canary else names
        sign = f" (canary, {f'held {duration(self.hold)}' if self.hold else 'not held'})" if self.canary else ""
        return f"{canary} first{sign}, then {names}" if others else f"{canary} alone{sign}"

    def _time(self, seconds: Mapping[str, float | None], first: Sequence[str], others: Sequence[str], what: str) -> str:
        """Return the words for the time of all turns: measured for runs like these, with the hold, without the drains."""
        start = sum(seconds[node] or 0 for node in first) + (self.hold if first and self.canary else 0)
        drain = f", and at most {duration(self.drain)} a {what} until its requests have ended" if self.drain else ""
        return self._measured(seconds, start, others, drain)

    def _measured(self, seconds: Mapping[str, float | None], start: float, others: Sequence[str], drain: str) -> str:
        """Return the words for a time: `start` seconds until the `others` begin."""
        missing = sum(value is None for value in seconds.values())
        if missing == len(seconds):
            return "not measured yet"
        ends = [start] * self.at_once
        for node in others:  # each takes the place that is free first
            heapq.heappush(ends, heapq.heappop(ends) + (seconds[node] or 0))
        return f"about {duration(max(ends))}{f' ({missing} not measured yet)' if missing else ''}{drain}"


def _seconds(group: Sequence[Change], by_replica: bool) -> float | None:
    """Return the seconds from the first run that needs the turn to the node's last one; None if one of these was never measured.

    A run for one replica takes as long as one for all of the node.
    """
    begin = min(RANK[change.kind] for change in group if change.in_turn)
    runs = [change for change in group if RANK.get(change.kind, -1) >= begin]
    if any(change.seconds is None and change.effect.level not in ("none", "repair") for change in runs):
        return None
    return sum((change.seconds or 0) * (change.replicas if by_replica and change.in_turn else 1) for change in runs)


def _capacity(out: int, total: int, by_replica: bool) -> str:
    """Return how many nodes serve while `out` of them are changed."""
    left = total if by_replica else total - out
    if not left:
        return "at the worst moment no node serves"
    text = f"at the worst moment {left} of {total} nodes serve{'s' if left == 1 else ''}"
    if not by_replica:
        return text
    return f"{text}, {'' if total == 1 else 'one of them ' if out == 1 else f'{out} of them each '}without one of its replicas"
