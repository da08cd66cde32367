"""What a reviewer reads, as lines: a visible part of at most VISIBLE lines, and folds with everything else. The forms only dress it.

Pure. In a line, text between two of MARK comes from a file or a node: a form shows it as it is, and never interprets it.
Called by markdown.py and page.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fleet import printable
from fleet.impact import forecast
from fleet.impact.forecast import Line
from fleet.impact.forecast_turns import Course
from fleet.review import report as reports
from fleet.review.report import Report

VISIBLE = 25
MARK = "\0"
# Lines of one topic in the visible part; together with the topics of one line they are at most VISIBLE, whatever happens.
FAILURES, DESTROYED, REBOOTS, EFFECTS, REMARKS, MOVED = 1, 2, 2, 3, 1, 2
SHOWN_NAMES, SHOWN_REASONS, SHOWN_VERSIONS = 6, 2, 4
# Characters of the whole in each form: less than what GitHub (65,536) and GitLab accept in one comment; the rest is for what dresses it.
LIMIT, DRESS = 60_000, 1_500
MORE = "more lines: `fleet review --format json` has everything"
WIDTH = 160  # characters of one text of a file or a node


@dataclass(frozen=True)
class Fold:
    """What a reviewer opens: its title, and its lines."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Outline:
    """The first line, the lines below it, and the folds, the most important first."""

    title: str
    lines: Sequence[str]
    folds: Sequence[Fold] = field(default_factory=list)


def outline(report: Report, moved: Sequence[str] = ()) -> Outline:
    """Return the outline, `moved` since an earlier report first, then in the order in which a reviewer decides: what is lost, what stops, what changes, by what right, how."""
    changes = report.prediction.changes
    at_once = report.prediction.turns.at_once if report.prediction.turns else 1
    lines = forecast.alike(changes, report.prediction.parallel, at_once)
    reboots = [line for line in lines if line.effect.level == "reboot"]
    others = [line for line in lines if line.effect.level not in ("reboot", "replace")]
    topics = (
        _first("lines about what moved", (f"moved since the earlier report: {_quoted(line)}" for line in moved), MOVED),
        _failures(report),
        _destroyed(report),
        _first("effects", map(_effect, reboots), REBOOTS),
        _first("effects", map(_effect, others), EFFECTS),
        _joined("versions: ", _versions(report)),
        _joined("known vulnerabilities of vLLM: ", _vulnerabilities(report)),
        _drift(report),
        _first("remarks", map(_remark, report.remarks), REMARKS),
        _waivers(report),
        _course(report),
        _evidence(report),
        _unchecked(report),
    )
    return Outline(_title(report), [line for topic in topics for line in topic], [*_folds(report, lines, moved)])


def _title(report: Report) -> str:
    counts = [f"{len(nodes)} {_category(name)}" for name, nodes in report.categories.items() if nodes]
    nodes = len(report.nodes)
    what = "node" if nodes == 1 else "nodes"
    known = report.verdict != reports.NOTHING and not (report.failures and not report.prediction.changes)
    counted = f": of {nodes} {what} {', '.join(counts)}" if counts and known else ""
    return f"{report.stack}: {report.verdict}{counted}{_capacity(report)}"


def _category(name: str) -> str:
    """Return the verb of a category: `3 reboot`."""
    return {"changed": "change without a restart"}.get(name, name)


def _capacity(report: Report) -> str:
    course = _turns(report)
    if course:
        return f"; {course.capacity}, {course.time}"
    categories = report.categories
    hit = len(categories["reboot"]) + len(categories["restart"])
    if not hit:
        return ""
    if len(report.nodes) == 1:
        return "; meanwhile it does not serve"
    return f"; without turns: up to {min(hit, report.prediction.parallel)} of {len(report.nodes)} at the same time"


def _turns(report: Report) -> Course | None:
    turns = report.prediction.turns
    return turns.course(report.prediction.changes) if turns else None


def _failures(report: Report) -> Iterator[str]:
    reasons = (f"refused: {_quoted((words.splitlines() or [''])[0])}" for words in report.failures)
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
    because = f": {_quoted(', '.join(causes))} changed" if causes else ""
    because = because or (": no longer in the stack file" if verb == "deleted" else "")
    return f"{verb}: {_quoted(_names(names))}{because}"


def _effect(line: Line) -> str:
    reasons = [_quoted(reason) for reason in line.because[:SHOWN_REASONS]]
    reasons += [f"and {len(line.because) - SHOWN_REASONS} more reasons"] if len(line.because) > SHOWN_REASONS else []
    who = _nodes(line.nodes)
    because = f": {'; '.join(reasons)}" if reasons else ""
    return f"{who}: {line.action}{line.time}{because}"


def _versions(report: Report) -> Iterator[str]:
    """Yield each version that moves, with how many nodes move alike."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for change in report.prediction.versions:
        groups.setdefault((change.name, change.old, change.new), []).append(change.node)
    for (name, old, new), nodes in groups.items():
        yield f"{name} {_quoted(_short(old), 60)} -> {_quoted(_short(new), 60)} on {_nodes(nodes)}"


def _short(value: str) -> str:
    """Return a version as a reviewer compares it: of a digest or a commit the first characters."""
    head, at, digest = value.partition("@sha256:")
    if at:
        return f"{head.rpartition('/')[2]}@{digest[:12]}"
    return value[:12] if len(value) == 40 else value or "none"


def _vulnerabilities(report: Report) -> Iterator[str]:
    for closed, words in ((False, "opens"), (True, "closes")):
        names = [entry.name for entry in report.vulnerabilities if entry.closed is closed]
        if names:
            yield f"{words} {_names(names)}"


def _drift(report: Report) -> Iterator[str]:
    """Yield one line about drift, apart from what the stack file intends."""
    drifted = {urn: basis.drift for urn, basis in report.prediction.basis.items() if basis.drift}
    if not drifted:
        return
    nodes = dict.fromkeys(urn.rpartition("::")[2] for urn in drifted)
    number = sum(map(len, drifted.values()))
    yield f"drift: {number} {'difference' if number == 1 else 'differences'} on {_nodes([*nodes])}, which the run repairs"


def _remark(remark: reports.Remark) -> str:
    level = "mandatory" if remark.mandatory else "advisory"
    about = f" ({_nodes(remark.about)})" if remark.about else ""
    return f"{level} {remark.rule}: {_quoted(' '.join(remark.words.split()))}{about}"


def _waivers(report: Report) -> Iterator[str]:
    if report.waivers:
        ends = sorted(report.waivers, key=lambda waiver: waiver.until)
        yield f"waived: {_quoted(_names(f'{waiver.rule} until {waiver.until}' for waiver in ends))}"


def _course(report: Report) -> Iterator[str]:
    if course := _turns(report):
        yield course.order
        yield "a node that fails goes back to what it serves now, and the others are held back; packages and kernel settings stay"


def _evidence(report: Report) -> Iterator[str]:
    evidence = report.evidence
    commit = f"commit {evidence.commit[:12]}{' and changes beside it' if evidence.modified else ''}"
    read = "read now" if evidence.hosts else "of the last refresh"
    yield f"{commit if evidence.commit else 'no commit'}; effects {report.effects_digest}, facts {report.facts_digest}, hosts {read}"


def _unchecked(report: Report) -> Iterator[str]:
    if report.unchecked:
        yield f"not checked: {'; '.join(words.partition(':')[0] for words in report.unchecked)}"


def _folds(report: Report, lines: Sequence[Line], moved: Sequence[str]) -> Iterator[Fold]:
    """Yield the folds with lines in them."""
    folds = (
        Fold("What moved since the earlier report", [_quoted(line) for line in moved]),
        Fold("Why it is refused", [_quoted(line) for words in report.failures for line in words.splitlines()]),
        Fold("Deletions and replacements", [*_operations(report)]),
        Fold("Effects and their reasons", [entry for line in lines for entry in _whole_effect(line)]),
        Fold("Versions and vulnerabilities", [*_versions(report), *_whole_vulnerabilities(report)]),
        Fold("Drift", [*_whole_drift(report)]),
        Fold("Policies, rules and waivers", [*_whole_remarks(report)]),
        Fold("Not checked", list(report.unchecked)),
    )
    yield from (fold for fold in folds if fold.lines)


def _operations(report: Report) -> Iterator[str]:
    for operation in report.operations:
        if operation.destroys:
            causes = f": {_quoted(', '.join(operation.causes))}" if operation.causes else ""
            yield f"{operation.op} {_quoted(operation.name)}{causes}"
    for operation in report.operations:
        if operation.op not in reports.KNOWN:
            yield f"{_quoted(f'{operation.op} {operation.name}')}: this release does not know what that is"


def _whole_effect(line: Line) -> Iterator[str]:
    yield f"{', '.join(line.nodes)}: {line.action}{line.time}"
    yield from (f"  {_quoted(reason)}" for reason in line.because)


def _whole_vulnerabilities(report: Report) -> Iterator[str]:
    for entry in report.vulnerabilities:
        yield f"{'closes' if entry.closed else 'opens'} {entry.name}: {_quoted(entry.what)}"


def _whole_drift(report: Report) -> Iterator[str]:
    """Yield each difference once, with the nodes that have it."""
    nodes: dict[str, list[str]] = {}
    for urn, basis in report.prediction.basis.items():
        for difference in basis.drift:
            nodes.setdefault(str(difference), []).append(urn.rpartition("::")[2])
    for words, names in nodes.items():
        yield f"{', '.join(dict.fromkeys(names))}: {_quoted(words)}"


def _whole_remarks(report: Report) -> Iterator[str]:
    for remark in report.remarks:
        yield f"{'mandatory' if remark.mandatory else 'advisory'} {remark.rule}: {', '.join(remark.about)}"
        yield from (f"  {_quoted(line)}" for line in remark.words.splitlines())
    for waiver in report.waivers:
        yield f"waived until {waiver.until}: {_quoted(f'{waiver.rule}: {waiver.reason}')}"


def _joined(head: str, parts: Iterable[str]) -> Iterator[str]:
    """Yield one line of several short parts, if there are any."""
    parts = [*parts]
    more = [f"and {len(parts) - SHOWN_VERSIONS} more below"] if len(parts) > SHOWN_VERSIONS else []
    if parts:
        yield head + "; ".join([*parts[:SHOWN_VERSIONS], *more])


def _first(what: str, lines: Iterable[str], most: int) -> Iterator[str]:
    """Yield at most `most` lines, then how many more of it the folds have."""
    lines = [*lines]
    yield from lines[:most]
    if len(lines) > most:
        yield f"and {len(lines) - most} more {what} below"


def _nodes(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN_NAMES else f"{len(names)} nodes"


def _names(names: Iterable[str], most: int = SHOWN_NAMES) -> str:
    names = [*names]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def _quoted(text: str, width: int = WIDTH) -> str:
    text = printable.plain(" ".join(text.replace(MARK, "").split()))
    return f"{MARK}{text if len(text) <= width else f'{text[: width - 3]}...'}{MARK}"


def clipped(folds: Sequence[Fold], budget: int, size: Callable[[str], int]) -> list[Fold]:
    """Return the folds within `budget` characters; `size` is that of a line in a form. Short folds stay whole, long ones share the rest."""
    sizes = [sum(size(line) + 1 for line in fold.lines) for fold in folds]
    shares, left = [0] * len(folds), budget
    for rank, place in enumerate(sorted(range(len(folds)), key=sizes.__getitem__)):
        shares[place] = min(sizes[place], left // (len(folds) - rank))
        left -= shares[place]
    return [_clipped(fold, share, size) for fold, share in zip(folds, shares, strict=True)]


def _clipped(fold: Fold, share: int, size: Callable[[str], int]) -> Fold:
    used, lines = 0, list[str]()
    for line in fold.lines:
        used += size(line) + 1
        if used > share:
            lines.append(f"... and {len(fold.lines) - len(lines)} {MORE}")
            break
        lines.append(line)
    return Fold(fold.title, lines)
