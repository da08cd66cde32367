"""What moved between two reports of one change: the effects, and what they were computed from, in words; alike nodes in one line.

Pure. Called by fleet.cli.review for `--against`, and by fleet.cli.apply, which refuses a report of another world.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.impact import effects
from fleet.impact.forecast import natural
from fleet.review.record import Basis
from fleet.review.report import Report

# A line about something, and the thing that it is about: the nodes of equal lines are joined.
Entry = tuple[str, str]


def lines(old: Report, new: Report) -> list[str]:
    """Return a line for each difference that counts, none for reports of the same change of the same world."""
    entries = [*_operations(old, new), *_effects(old, new), *_bases(old, new), *_surroundings(old, new)]
    names: dict[str, list[str]] = {}
    for words, name in entries:
        names.setdefault(words, []).append(name)
    return [_line(words, sorted({*those}, key=natural)) for words, those in names.items()]


def _line(words: str, names: list[str]) -> str:
    about = (
        ", ".join(filter(None, names)) if len(names) <= 12 else f"{', '.join(names[:12])} and {len(names) - 12} more"
    )
    return f"{about}: {words}" if about else words


def _operations(old: Report, new: Report) -> Iterator[Entry]:
    before, after = ({step.urn: step for step in report.operations} for report in (old, new))
    for urn in {**before, **after}:
        was, now = before.get(urn), after.get(urn)
        if was != now:
            step = now or was
            assert step
            words = (
                f"now also: {step.op}" if was is None else f"no longer: {step.op}" if now is None else _step(was, now)
            )
            yield f"{step.type.rpartition(':')[2]}: {words}", step.urn.rpartition("::")[2]


def _step(was: Any, now: Any) -> str:
    if was.op != now.op:
        return f"{was.op}, now {now.op}"
    return f"{now.op} because of {', '.join(was.causes) or 'nothing'}, now of {', '.join(now.causes) or 'nothing'}"


def _effects(old: Report, new: Report) -> Iterator[Entry]:
    before, after = _by_resource(old), _by_resource(new)
    for key in {**before, **after}:
        was, now = before.get(key, ()), after.get(key, ())
        node, kind = key
        yield from ((f"{kind}: no longer: {words}", node) for words in was if words not in now)
        yield from ((f"{kind}: now: {words}", node) for words in now if words not in was)


def _by_resource(report: Report) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the effects in words by node and kind."""
    by_resource: dict[tuple[str, str], tuple[str, ...]] = {}
    for change in report.prediction.changes:
        effect = change.effect
        new = effect.level in ("new", "replace")
        words = effect.level if new else effects.in_words(effect, "it")
        turn = " in its turn" if change.in_turn else ""
        key = change.node, change.kind
        by_resource[key] = (*by_resource.get(key, ()), f"{words}{turn}")
    return by_resource


def _bases(old: Report, new: Report) -> Iterator[Entry]:
    before, after = old.prediction.basis, new.prediction.basis
    for urn in {**before, **after}:
        was, now = before.get(urn), after.get(urn)
        kind, name = urn.split("::")[2].rpartition(":")[2], urn.rpartition("::")[2]
        if was is None or now is None:
            yield f"{kind}: {'it is new' if was is None else 'it is gone'}", name
        elif was != now:
            yield from ((f"{kind}: {words}", name) for words in _basis(was, now))


def _basis(was: Basis, now: Basis) -> Iterator[str]:
    """Yield what is known by name; a digest alone tells that something else moved."""
    named = [*_facts(was.facts, now.facts)]
    named += [f"drifted since: {entry}" for entry in now.drift if entry not in was.drift]
    named += [f"drifted no longer: {entry}" for entry in was.drift if entry not in now.drift]
    yield from named
    if was.inputs != now.inputs:
        yield "its inputs moved: the stack file, a role or another resource changed"
    if was.state != now.state and not named:
        yield "its state moved: another run changed it"


def _facts(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            yield f"{name} {was.get(name, 'unset')} -> {now.get(name, 'unset')}"


def _surroundings(old: Report, new: Report) -> Iterator[Entry]:
    if old.stack != new.stack:
        yield f"it is about the stack {new.stack}, and was about {old.stack}", ""
    if old.prediction.turns != new.prediction.turns:
        yield "the turns moved: glm-fleet:change, or the nodes that serve", ""
    if old.evidence.stack_file != new.evidence.stack_file:
        yield "the stack file is another one", ""
