"""Collect the effects that the resources of one preview predict, and return them as the lines at its end.

Called by the servicer, from many threads, and by playbook.py. Needs fleet.impact.forecast and forecast_turns for the lines.
"""

import re
import threading
from collections.abc import Iterable, Sequence

from fleet.impact import forecast, forecast_turns
from fleet.impact.effects import Effect
from fleet.provider.base import kind_of, name_of
from fleet.provider.properties import Props

# Kinds that are on no machine.
ELSEWHERE = ("Authority", "Account")
# Variables of a Gateway that decide who reaches whom.
REACH = (
    *("gateway_faces", "gateway_address", "gateway_nodes", "gateway_names", "gateway_peers", "gateway_acme"),
    *("gateway_virtual_address", "gateway_port", "gateway_node_port", "gateway_peers_port", "gateway_challenge_port"),
)


class PreviewSummary:
    """The changes of one preview; a process of the plugin serves only one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._existing: set[str] = set()
        self._replace_reasons: dict[str, Iterable[str]] = {}
        self._changes: dict[str, list[forecast.Change]] = {}

    def add_existing(self, urn: str) -> None:
        """Add a resource of the state: a create of it will be a replacement."""
        with self._lock:
            self._existing.add(urn)

    def add_replacement(self, urn: str, because: Iterable[str]) -> None:
        """Add the reasons for which a resource will be replaced."""
        with self._lock:
            self._replace_reasons[urn] = because

    def add_create(self, urn: str) -> None:
        """Add the create of a resource, new or as a replacement."""
        with self._lock:
            level = "replace" if urn in self._existing else "new"
            effect = Effect(level, (kind_of(urn),), tuple(self._replace_reasons.get(urn, ())))
            self._changes[urn] = [forecast.Change(name_of(urn), effect, kind=kind_of(urn))]

    def add_update(self, urn: str, effects: Sequence[Effect], took: Props, replicas: int = 0) -> None:
        """Add an update with its effects, the strongest first; `took` has the seconds of earlier runs by level.

        `replicas` are those that it can change one after the other.
        """
        seconds = [expected_seconds(effect, took) if number == 0 else 0 for number, effect in enumerate(effects)]
        with self._lock:
            self._changes[urn] = [
                forecast.Change(name_of(urn), effect, duration, kind_of(urn), replicas=replicas)
                for effect, duration in zip(effects, seconds, strict=True)
            ]

    def lines(self, parallel: int, turns: forecast_turns.Turns | None = None, ports: Sequence[str] = ()) -> list[str]:
        """Return the lines of the summary; `parallel` is the number of machines that a run changes at the same time, without turns.

        `ports` are the lines after a change of who reaches whom.
        """
        changes = self.changes(turns)
        after = [*ports] if any(map(_reaches, changes)) else []
        if turns is None:
            return [*forecast.lines(changes, parallel), *after]
        return [*forecast.lines(changes, parallel, turns.at_once), *turns.lines(changes), *after]

    def changes(self, turns: forecast_turns.Turns | None = None) -> list[forecast.Change]:
        """Return the changes of machines in the order of their urns, with the turns that they need."""
        with self._lock:
            groups = [group for urn, group in sorted(self._changes.items()) if kind_of(urn) not in ELSEWHERE]
        changes = [change for group in groups for change in group]
        return turns.mark(changes) if turns else changes


def _reaches(change: forecast.Change) -> bool:
    """Return whether a change may need open ports: a new proxy, or other addresses, ports or gateways."""
    subjects = {re.split(r"[ .\[]", reason, maxsplit=1)[0] for reason in change.effect.because}
    return change.kind == "Gateway" and (change.effect.level == "new" or not subjects.isdisjoint(REACH))


def expected_seconds(effect: Effect, took: Props) -> float | None:
    """Return the seconds of the last run with this effect, or with another one that also started replicas.

    A state of release 0.1.0 has the levels repair, await and recreate under the names mends, waits and anew.
    """
    others = {
        "restart": ("new",),
        "start": ("new",),
        "reboot": ("new",),
        "repair": ("mends",),
        "await": ("waits", "restart", "new"),
        "recreate": ("anew", "new"),
    }.get(effect.level, ())
    return next((took[level] for level in (effect.level, *others) if level in took), None)


def add_seconds(effects: Sequence[Effect], seconds: float, took: Props) -> Props:
    """Return `took` with the seconds of one more run, unless its strongest effect was not sure."""
    if effects and not effects[0].sure:
        return took
    return {**took, effects[0].level if effects else "new": round(seconds, 1)}
