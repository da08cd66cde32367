"""What a whole preview foretells, in a few lines: identical machines in one, what interrupts most first, and for how long.

Pure: changes of single resources in, text out; opens no connection. Called by fleet.provider.preview_summary at the end of a preview.
The golden texts are in tests/unit/golden/impact_forecast.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fleet.impact.effects import Effect
from fleet.stack import resource_roles

# What a role may state, and what only the engine knows: that a resource is replaced, or new.
ORDER = (
    "reinstall",
    "replace",
    "recreate",
    "reboot",
    "restart",
    "stop",
    "start",
    "reload",
    "await",
    "repair",
    "none",
    "new",
)
# Of these `what` are kinds of resources.
KINDS = ("replace", "recreate", "new")
# Names that fit beside what happens, names below it, reasons of one line, lines for one thing with other values.
BESIDE, BELOW, REASONS, ALIKE = 3, 12, 12, 3


@dataclass(frozen=True)
class Change:
    """One effect of one resource's run on a machine; one of KINDS hits kinds of resources.

    `seconds` is how long an earlier run of this kind took, None when none was measured, 0 when a stronger effect of the same run tells it.
    """

    node: str
    effect: Effect
    seconds: float | None = None


Groups = dict[Effect, list[Change]]


def lines(changes: Iterable[Change], parallel: int) -> list[str]:
    """Return the lines; `parallel` is how many machines are worked on at once. No changes, no lines."""
    alike: Groups = {}
    for change in _by_machine(changes):
        alike.setdefault(change.effect, []).append(change)
    # Where there are more lines than anybody reads: first those that differ in values alone become one, then all with one effect.
    alike = _fewer(alike, ALIKE, lambda effect: tuple(dict.fromkeys(map(_subject, effect.because))))
    found = list(_fewer(alike, 2 * ALIKE, lambda effect: ()).items())
    found.sort(key=lambda one: (ORDER.index(one[0].level), not one[0].sure, -len(one[1]), _natural(one[1][0].node)))
    return [_line(effect, group, parallel) for effect, group in found]


def duration(seconds: float) -> str:
    """Return `92 s`, `4 min` or `1.5 h`."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 120 * 60 else f"{seconds / 3600:.1f} h".replace(".0 h", " h")


def _by_machine(changes: Iterable[Change]) -> list[Change]:
    """Join what several resources of a machine foretell alike: the reasons are one list, the runs come one after the other."""
    found: dict[tuple[str, str, bool, tuple[str, ...]], list[Change]] = {}
    for one in changes:
        whom = () if one.effect.level in KINDS else one.effect.what
        found.setdefault((one.node, one.effect.level, one.effect.sure, whom), []).append(one)
    joined = []
    for (node, level, sure, what), group in found.items():
        if level in KINDS:
            what = _whole({kind for one in group for kind in one.effect.what})
        because = tuple(dict.fromkeys(reason for one in group for reason in one.effect.because))
        taken = [one.seconds for one in group]
        known = [seconds for seconds in taken if seconds is not None]
        joined.append(
            Change(node, Effect(level, what, because, sure), sum(known) if len(known) == len(taken) else None)
        )
    return sorted(joined, key=lambda one: _natural(one.node))


def _whole(hit: set[str]) -> tuple[str, ...]:
    """Return the kinds in the order of the road; none where the machine itself is among them, and so all that is on it."""
    return () if "Node" in hit else tuple(kind for kind in map(str.capitalize, resource_roles.ROLES) if kind in hit)


def _fewer(alike: Groups, most: int, about: Callable[[Effect], tuple[str, ...]]) -> Groups:
    """Make one of the groups that have one effect and are `about` the same, where these are more than `most`."""
    same: dict[tuple[Effect, tuple[str, ...]], list[Effect]] = {}
    for effect in alike:
        same.setdefault((replace(effect, because=()), about(effect)), []).append(effect)
    fewer: Groups = {}
    for (bare, _), effects in same.items():
        if len(effects) <= most:
            fewer |= {effect: alike[effect] for effect in effects}
            continue
        everywhere = [reason for reason in effects[0].because if all(reason in one.because for one in effects)]
        others = [reason for one in effects for reason in one.because if reason not in everywhere]
        because = tuple(
            dict.fromkeys([*everywhere, *(f"{_subject(reason)} (not the same on all)" for reason in others)])
        )
        members = [change for effect in effects for change in alike[effect]]
        fewer[replace(bare, because=because)] = sorted(members, key=lambda one: _natural(one.node))
    return fewer


def _subject(reason: str) -> str:
    """Return what a reason is about, without its values: `vllm_image a -> b`, `file /etc/x (absent, wanted present)`."""
    return reason.partition(" ")[0] if " -> " in reason else reason.partition(" (")[0]


def _line(effect: Effect, group: Sequence[Change], parallel: int) -> str:
    names = [change.node for change in group]
    who = ", ".join(names) if len(names) <= BESIDE else f"{len(names)} nodes"
    reasons = [*effect.because[:REASONS], *_more(effect.because, REASONS)]
    taken = [one.seconds for one in group]
    text = f"{who}: {_does(effect)}{_how_long(taken, parallel, effect.level not in ('repair', 'none'))}"
    text += f": {'; '.join(reasons)}" if reasons else ""
    if len(names) <= BESIDE:
        return text
    return f"{text}\n  {', '.join(names[:BELOW])}{''.join(f' {more}' for more in _more(names, BELOW))}"


def _more(all_of_them: Sequence[str], shown: int) -> list[str]:
    return [f"and {len(all_of_them) - shown} more"] if len(all_of_them) > shown else []


def _does(effect: Effect) -> str:
    whom = f" {', '.join(effect.what)}" if effect.what else ""
    does = {
        "reinstall": "reinstall",
        "replace": f"replace{whom}",
        "recreate": f"set up{whom} again",
        "reboot": "reboot",
        "restart": f"restart{whom}",
        "stop": f"stop{whom}",
        "start": f"start{whom}",
        "reload": f"reload{whom}",
        "await": "await the replicas and probe them again",
        "repair": "repair what drifted, nothing restarts",
        "none": "nothing restarts",
        "new": f"set up{whom}",
    }[effect.level]
    return does if effect.sure else f"may {does}"


def _how_long(taken: Sequence[float | None], parallel: int, matters: bool) -> str:
    """Return how long it takes; that nobody has measured it is told where it `matters`."""
    measured = sorted(seconds for seconds in taken if seconds)
    missing = sum(seconds is None for seconds in taken)
    if not measured:
        return (", not measured yet" if matters else "") if missing else ", in the same run"
    shortest, longest = duration(measured[0]), duration(measured[-1])
    text = f", about {longest}" if shortest == longest else f", about {shortest} to {longest}"
    text += " each" if len(taken) > 1 else ""
    text += f", {parallel} at a time" if len(taken) > parallel else ""
    return f"{text} ({missing} not measured yet)" if missing and matters else text


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort prod-2 before prod-10."""
    split: Callable[[str], list[str]] = re.compile(r"(\d+)").split
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in split(name))
