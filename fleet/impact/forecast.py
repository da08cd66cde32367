"""Summarises the effects of a preview in a few lines: one line for machines with the same effect, the strongest first, with durations.

Pure: changes of single resources in, text out; opens no connection. Called by fleet.provider.preview_summary at the end of a preview.
The golden texts are in tests/unit/golden/impact_forecast.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fleet.impact.effects import Effect
from fleet.stack import resource_roles

# Levels of effects from the strongest: those of roles, and those of the Pulumi engine, which replaces and creates resources.
ORDER = (
    "reinstall",
    "replace",
    "recreate",
    "reboot",
    "upgrade",
    "restart",
    "stop",
    "start",
    "reload",
    "await",
    "repair",
    "none",
    "new",
)
# Levels whose `what` are kinds of resources.
KINDS = ("replace", "recreate", "new")
# At most: names before the effect, else names in a line below it, reasons of a line, lines that differ only in values.
INLINE_NAMES, NAMES, REASONS, SIMILAR_LINES = 3, 12, 12, 3


@dataclass(frozen=True)
class Change:
    """One effect of one resource's run on a machine; a level in KINDS hits kinds of resources.

    `seconds` is the duration of an earlier run of this kind, None for one that was never measured, 0 if a stronger effect of the same run
    has the duration. `kind` is the resource's, `in_turn` whether the machine waits for its turn. `replicas` are
    those that it changes one after the other, 0 for all at once.
    """

    node: str
    effect: Effect
    seconds: float | None = None
    kind: str = ""
    in_turn: bool = False
    replicas: int = 0


Groups = dict[Effect, list[Change]]


@dataclass(frozen=True)
class Line:
    """One line: the nodes that change alike, what happens there, how long it takes, and all reasons."""

    effect: Effect
    nodes: tuple[str, ...]
    action: str
    time: str
    because: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(self.nodes) if len(self.nodes) <= INLINE_NAMES else f"{len(self.nodes)} nodes"
        reasons = [*self.because[:REASONS], *_more(self.because, REASONS)]
        text = f"{names}: {self.action}{self.time}"
        text += f": {'; '.join(reasons)}" if reasons else ""
        if len(self.nodes) <= INLINE_NAMES:
            return text
        return f"{text}\n  {', '.join(self.nodes[:NAMES])}{''.join(f' {more}' for more in _more(self.nodes, NAMES))}"


def lines(changes: Iterable[Change], parallel: int, at_once: int = 1) -> list[str]:
    """Return the lines as text, none without changes."""
    return [str(line) for line in alike(changes, parallel, at_once)]


def alike(changes: Iterable[Change], parallel: int, at_once: int = 1) -> list[Line]:
    """Return the lines; `parallel` is the number of machines that a run changes at the same time, `at_once` in turns."""
    groups: Groups = {}
    for change in _by_machine(changes):
        groups.setdefault(change.effect, []).append(change)
    # Too many lines to read: first merge those that differ only in values, then all with the same effect.
    groups = _merge(groups, SIMILAR_LINES, lambda effect: tuple(dict.fromkeys(map(_subject, effect.because))))
    rows = list(_merge(groups, 2 * SIMILAR_LINES, lambda effect: ()).items())
    rows.sort(key=lambda row: (ORDER.index(row[0].level), not row[0].sure, -len(row[1]), natural(row[1][0].node)))
    limits = {True: min(parallel, at_once), False: parallel}
    return [_line(effect, group, limits[all(change.in_turn for change in group)]) for effect, group in rows]


def duration(seconds: float) -> str:
    """Return `92 s`, `4 min` or `1.5 h`."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 120 * 60 else f"{seconds / 3600:.1f} h".replace(".0 h", " h")


def _by_machine(changes: Iterable[Change]) -> list[Change]:
    """Join the equal effects of several resources of a machine: one list of reasons, the sum of the durations."""
    groups: dict[tuple[str, str, bool, tuple[str, ...]], list[Change]] = {}
    for change in changes:
        units = () if change.effect.level in KINDS else change.effect.what
        groups.setdefault((change.node, change.effect.level, change.effect.sure, units), []).append(change)
    node_changes = []
    for (node, level, _, what), group in groups.items():
        if level in KINDS:
            what = _kinds({kind for change in group for kind in change.effect.what})
        because = tuple(dict.fromkeys(reason for change in group for reason in change.effect.because))
        measured_seconds = [change.seconds for change in group if change.seconds is not None]
        seconds = sum(measured_seconds) if len(measured_seconds) == len(group) else None
        in_turn = any(change.in_turn for change in group)
        node_changes.append(
            Change(node, replace(group[0].effect, what=what, because=because), seconds, in_turn=in_turn)
        )
    return sorted(node_changes, key=lambda change: natural(change.node))


def _kinds(hit: set[str]) -> tuple[str, ...]:
    """Return the kinds in the order of the program; () for all, if the machine itself is among them."""
    return () if "Node" in hit else tuple(kind for kind in map(str.capitalize, resource_roles.ROLES) if kind in hit)


def _merge(groups: Groups, most: int, about: Callable[[Effect], tuple[str, ...]]) -> Groups:
    """Merge groups that differ only in reasons and have the same value of `about`, where these are more than `most`."""
    similar: dict[tuple[Effect, tuple[str, ...]], list[Effect]] = {}
    for effect in groups:
        similar.setdefault((replace(effect, because=()), about(effect)), []).append(effect)
    merged_groups: Groups = {}
    for (bare, _), effects in similar.items():
        if len(effects) <= most:
            merged_groups |= {effect: groups[effect] for effect in effects}
            continue
        common = [reason for reason in effects[0].because if all(reason in effect.because for effect in effects)]
        others = [reason for effect in effects for reason in effect.because if reason not in common]
        because = tuple(dict.fromkeys([*common, *(f"{_subject(reason)} (not the same on all)" for reason in others)]))
        members = [change for effect in effects for change in groups[effect]]
        merged_groups[replace(bare, because=because)] = sorted(members, key=lambda change: natural(change.node))
    return merged_groups


def _subject(reason: str) -> str:
    """Return a reason without its values: of `vllm_image a -> b` and `file /etc/x (absent, wanted present)` the part before them."""
    return reason.partition(" ")[0] if " -> " in reason else reason.partition(" (")[0]


def _line(effect: Effect, group: Sequence[Change], parallel: int) -> Line:
    durations = [change.seconds for change in group]
    time = _how_long(durations, parallel, effect.level not in ("repair", "none"))
    return Line(effect, tuple(change.node for change in group), _action(effect), time, effect.because)


def _more(entries: Sequence[str], shown: int) -> list[str]:
    return [f"and {len(entries) - shown} more"] if len(entries) > shown else []


def _action(effect: Effect) -> str:
    what = f" {', '.join(effect.what)}" if effect.what else ""
    what += f", {effect.manner}" if effect.manner else ""
    action = {
        "reinstall": "reinstall",
        "replace": f"replace{what}",
        "recreate": f"set up{what} again",
        "reboot": "reboot",
        "upgrade": f"upgrade{what}",
        "restart": f"restart{what}",
        "stop": f"stop{what}",
        "start": f"start{what}",
        "reload": f"reload{what}",
        "await": "await the replicas and probe them again",
        "repair": "repair what drifted, nothing restarts",
        "none": "nothing restarts",
        "new": f"set up{what}",
    }[effect.level]
    return action if effect.sure else f"may {action}"


def _how_long(durations: Sequence[float | None], parallel: int, matters: bool) -> str:
    """Return the words for the durations, in seconds; those for a missing one only where it `matters`."""
    measured_seconds = sorted(seconds for seconds in durations if seconds)
    missing = sum(seconds is None for seconds in durations)
    if not measured_seconds:
        return (", not measured yet" if matters else "") if missing else ", in the same run"
    shortest, longest = duration(measured_seconds[0]), duration(measured_seconds[-1])
    text = f", about {longest}" if shortest == longest else f", about {shortest} to {longest}"
    text += " each" if len(durations) > 1 else ""
    text += f", {parallel} at a time" if len(durations) > parallel else ""
    return f"{text} ({missing} not measured yet)" if missing and matters else text


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts prod-2 before prod-10."""
    split: Callable[[str], list[str]] = re.compile(r"(\d+)").split
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in split(name))
