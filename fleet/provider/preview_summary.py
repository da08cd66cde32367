"""What the previews of one run of the engine foretell, noted as they are answered; told together when the program asks for it.

Used by the servicer, from many threads. Needs fleet.impact.forecast for the lines; says nothing itself.
"""

import threading
from collections.abc import Iterable, Sequence

from fleet.impact import forecast
from fleet.impact.effects import Effect
from fleet.provider.base import kind_of, name_of
from fleet.provider.properties import Props


class Notes:
    """One process of the plugin serves one preview, or one update: what was noted is of that one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._there: set[str] = set()
        self._replaced: dict[str, Iterable[str]] = {}
        self._changes: dict[str, list[forecast.Change]] = {}

    def there(self, urn: str) -> None:
        """The state has this resource: a create of it will be a replacement."""
        with self._lock:
            self._there.add(urn)

    def replaced(self, urn: str, because: Iterable[str]) -> None:
        """These properties make another resource of it."""
        with self._lock:
            self._replaced[urn] = because

    def created(self, urn: str) -> None:
        """It will be made, or made anew."""
        with self._lock:
            level = "replace" if urn in self._there else "new"
            effect = Effect(level, (kind_of(urn),), tuple(self._replaced.get(urn, ())))
            self._changes[urn] = [forecast.Change(name_of(urn), effect)]

    def updated(self, urn: str, effects: Sequence[Effect], took: Props) -> None:
        """It will be updated, with these effects, the strongest first; `took` has the seconds of its earlier runs by level."""
        strongest = [forecast.Change(name_of(urn), effect, lasts(effect, took)) for effect in effects[:1]]
        others = [forecast.Change(name_of(urn), effect, 0) for effect in effects[1:]]
        with self._lock:
            self._changes[urn] = [*strongest, *others]

    def lines(self, parallel: int) -> list[str]:
        """Return all of it in a few lines."""
        with self._lock:
            return forecast.lines([one for _, changes in sorted(self._changes.items()) for one in changes], parallel)


def lasts(effect: Effect, took: Props) -> float | None:
    """Return how long a run with this effect took last. Where replicas start in it, another run that started them says it too.

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


def measured(effects: Sequence[Effect], seconds: float, took: Props) -> Props:
    """Return `took` with one run more: of a level that is not sure nothing can be said for the next time."""
    if effects and not effects[0].sure:
        return took
    return {**took, effects[0].level if effects else "new": round(seconds, 1)}
