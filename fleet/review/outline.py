"""What a reviewer reads, as lines: a visible part of at most VISIBLE lines, and folds with everything else. The forms only dress it.

Pure. Called by fleet.cli.review; markdown.py and page.py dress it. folds.py has the folds, wording.py the words of both.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fleet.impact import forecast
from fleet.impact.forecast import Change, Line
from fleet.impact.forecast_turns import Course
from fleet.review import folds, wording
from fleet.review import report as reports
from fleet.review.folds import Fold
from fleet.review.report import Report

VISIBLE = 25
# Lines of one topic in the visible part; together with the topics of one line they are at most VISIBLE, whatever happens.
FAILURES, DESTROYED, REBOOTS, EFFECTS, REMARKS, MOVED = 1, 2, 2, 4, 2, 2
SHOWN_REASONS, SHOWN_VERSIONS, SHOWN_BESIDE = 2, 4, 3
# Characters of the whole in each form: less than what GitHub (65,536) and GitLab accept in one comment; the rest is for what dresses it.
LIMIT, DRESS = 60_000, 1_500


@dataclass(frozen=True)
class Outline:
    """The first line, the lines below it, and the folds, the most important first."""

    title: str
    lines: Sequence[str]
    folds: Sequence[Fold] = field(default_factory=list)


def outline(report: Report, moved: Sequence[str] = ()) -> Outline:
    """Return the outline, `moved` since an earlier report first, then in the order in which a reviewer decides: what is lost, what stops, what changes, by what right, how."""
    lines = _alike(report, report.prediction.changes)
    reboots, others = _decisive(report)
    topics = (
        _first(
            "lines about what moved",
            (f"moved since the earlier report: {wording.quoted(line)}" for line in moved),
            MOVED,
        ),
        _failures(report),
        _destroyed(report),
        _first("effects", map(_effect, reboots), REBOOTS),
        _first("effects", map(_effect, others), EFFECTS),
        _joined("also: ", _beside(report)),
        _joined("versions: ", wording.versions(report)),
        _joined("known vulnerabilities of vLLM: ", _vulnerabilities(report)),
        _joined("files as the roles render them, below: ", _files(report)),
        _drift(report),
        _first("remarks", map(_remark, report.remarks), REMARKS),
        _waivers(report),
        _course(report),
        _evidence(report),
        _unchecked(report),
    )
    return Outline(
        _title(report), [line for topic in topics for line in topic], [*folds.of_report(report, lines, moved)]
    )


def _alike(report: Report, changes: Iterable[Change]) -> list[Line]:
    prediction = report.prediction
    return forecast.alike(changes, prediction.parallel, prediction.turns.at_once if prediction.turns else 1)


def _decisive(report: Report) -> tuple[list[Line], list[Line]]:
    """Return the reboots and the other effects that decide: of a node that is replaced, nothing but that."""
    gone = {*report.categories["replaced"], *report.categories["deleted"]}
    final = reports.CATEGORIES["replaced"]
    changes = [
        change for change in report.prediction.changes if change.node not in gone or change.effect.level in final
    ]
    lines = _alike(report, changes)
    others = [line for line in lines if line.effect.level not in ("reboot", "replace")]
    return [line for line in lines if line.effect.level == "reboot"], others


def _title(report: Report) -> str:
    counts = [
        f"{len(nodes)} {_category(name, report.sure(name, nodes))}"
        for name, nodes in report.categories.items()
        if nodes
    ]
    nodes = len(report.nodes)
    what = f"{'model' if report.of_models else 'node'}{'' if nodes == 1 else 's'}"
    known = report.verdict != reports.NOTHING and not (report.failures and not report.prediction.changes)
    counted = f": of {nodes} {what} {', '.join(counts)}" if counts and known else ""
    return f"{report.stack}: {report.verdict}{counted}{_capacity(report)}"


def _category(name: str, sure: bool) -> str:
    """Return the verb of a category: `3 reboot`, `3 may reboot`."""
    return {"changed": "change without a restart"}.get(name, name if sure else f"may {name}")


def _capacity(report: Report) -> str:
    course = _turns(report)
    if course:
        return f"; {course.capacity}, {course.time}"
    if report.of_models:
        lines = [line for line in _alike(report, report.prediction.changes) if line.effect.level == "restart"]
        worst = [f"{wording.nodes(line.nodes)}: {line.effect.manner}{line.time}" for line in lines]
        return f"; {'; '.join(worst)}" if len(worst) == 1 else f"; {len(worst)} ways, below" if worst else ""
    categories = report.categories
    hit = sum(len(categories[name]) for name in reports.INTERRUPTED)
    if not hit:
        return ""
    if len(report.nodes) == 1:
        return "; meanwhile it does not serve"
    return f"; without turns: up to {min(hit, report.prediction.parallel)} of {len(report.nodes)} at the same time"


def _turns(report: Report) -> Course | None:
    turns = report.prediction.turns
    return turns.course(report.prediction.changes) if turns else None


def _failures(report: Report) -> Iterator[str]:
    reasons = (f"refused: {wording.quoted((words.splitlines() or [''])[0])}" for words in report.failures)
    yield from _first("reasons", reasons, FAILURES)


def _destroyed(report: Report) -> Iterator[str]:
    """Yield deletions and replacements, alike ones in one line: the property that causes them."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for operation in report.operations:
        if operation.destroys:
            verb = "replaced" if operation.op in reports.REPLACES else "deleted"
            groups.setdefault((verb, operation.causes), []).append(operation.name)
    rows = sorted(groups.items(), key=lambda row: (row[0][0], -len(row[1])))
    yield from _first("deletions and replacements", (_destroy(*key, names) for key, names in rows), DESTROYED)


def _destroy(verb: str, causes: Sequence[str], names: Sequence[str]) -> str:
    because = f": {wording.quoted(', '.join(causes))} changed" if causes else ""
    because = because or (": no longer in the stack file" if verb == "deleted" else "")
    return f"{verb}: {wording.quoted(wording.names(names))}{because}"


def _effect(line: Line) -> str:
    reasons = [wording.quoted(reason) for reason in line.because[:SHOWN_REASONS]]
    more = len(line.because) - SHOWN_REASONS
    reasons += [f"and {more} more reason{'' if more == 1 else 's'}"] if more > 0 else []
    who = wording.nodes(line.nodes)
    because = f": {'; '.join(reasons)}" if reasons else ""
    return f"{who}: {line.action}{line.time}{because}"


def _beside(report: Report) -> Iterator[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for step in report.beside:
        groups.setdefault((step.op, step.kind), []).append(step.node)
    for (op, kind), names in groups.items():
        yield f"{op} {wording.quoted(f'{kind} {wording.names(names, SHOWN_BESIDE)}')}"


def _files(report: Report) -> Iterator[str]:
    for file in report.prediction.files:
        yield f"{wording.quoted(file.path)} on {wording.nodes(file.nodes)}"


def _vulnerabilities(report: Report) -> Iterator[str]:
    for closed, words in ((False, "opens"), (True, "closes")):
        names = [entry.name for entry in report.vulnerabilities if entry.closed is closed]
        if names:
            yield f"{words} {wording.names(names)}"


def _drift(report: Report) -> Iterator[str]:
    """Yield one line about drift, apart from what the stack file intends."""
    drifted = {urn: basis.drift for urn, basis in report.prediction.basis.items() if basis.drift}
    if not drifted:
        return
    nodes = dict.fromkeys(urn.rpartition("::")[2] for urn in drifted)
    number = sum(map(len, drifted.values()))
    yield f"drift: {number} {'difference' if number == 1 else 'differences'} on {wording.nodes([*nodes])}, which the run repairs"


def _remark(remark: reports.Remark) -> str:
    level = "mandatory" if remark.mandatory else "advisory"
    about = f" ({wording.nodes(remark.about)})" if remark.about else ""
    return f"{level} {remark.rule}: {wording.quoted(' '.join(remark.words.split()))}{about}"


def _waivers(report: Report) -> Iterator[str]:
    if report.waivers:
        ends = sorted(report.waivers, key=lambda waiver: waiver.until)
        yield f"waived: {wording.quoted(wording.names(f'{waiver.rule} until {waiver.until}' for waiver in ends))}"


def _course(report: Report) -> Iterator[str]:
    if course := _turns(report):
        fails = "a node that fails goes back to what it serves now, and the others are held back; packages and kernel settings stay"
        yield f"{course.order}; {fails}"


def _evidence(report: Report) -> Iterator[str]:
    evidence = report.evidence
    commit = f"commit {evidence.commit[:12]}{' and changes beside it' if evidence.modified else ''}"
    read = f"{'objects' if report.of_models else 'hosts'} {'read now' if evidence.hosts else 'of the last refresh'}"
    yield f"{commit if evidence.commit else 'no commit'}; effects {report.effects_digest}, facts {report.facts_digest}, {read}"


def _unchecked(report: Report) -> Iterator[str]:
    if report.unchecked:
        yield f"not checked: {'; '.join(words.partition(':')[0] for words in report.unchecked)}"


def _joined(head: str, parts: Iterable[str]) -> Iterator[str]:
    """Yield one line of several short parts, if there are any."""
    parts = [*parts]
    more = [f"and {len(parts) - SHOWN_VERSIONS} more below"] if len(parts) > SHOWN_VERSIONS else []
    if parts:
        yield head + "; ".join([*parts[:SHOWN_VERSIONS], *more])


def _first(what: str, lines: Iterable[str], most: int) -> Iterator[str]:
    """Yield at most `most` lines; the last one says how many more of it the folds have."""
    lines = [*lines]
    more = f" (and {len(lines) - most} more {what} below)" if len(lines) > most else ""
    yield from lines[: most - 1] if more else lines
    if more:
        yield f"{lines[most - 1]}{more}"
