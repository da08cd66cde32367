"""What a reviewer opens below the visible lines: everything that these leave out, within the bound of a comment.

Pure. Called by outline.py; the forms clip the folds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fleet.impact.forecast import Line
from fleet.review import report as reports
from fleet.review import wording
from fleet.review.report import Report

MORE = "more lines: `fleet review --format json` has everything"


@dataclass(frozen=True)
class Fold:
    """What a reviewer opens: its title, and its lines."""

    title: str
    lines: Sequence[str]


def of_report(report: Report, lines: Sequence[Line], moved: Sequence[str]) -> Iterator[Fold]:
    """Yield the folds with lines in them, the most important first."""
    every = (
        Fold("What moved since the earlier report", [wording.quoted(line) for line in moved]),
        Fold("Why it is refused", [wording.quoted(line) for words in report.failures for line in words.splitlines()]),
        Fold("Deletions and replacements", [*_operations(report)]),
        Fold("Effects and their reasons", [entry for line in lines for entry in _whole_effect(line)]),
        Fold("Beside the effects", [f"{step.op} {wording.quoted(step.name)}" for step in report.beside]),
        Fold("Versions and vulnerabilities", [*wording.versions(report), *_whole_vulnerabilities(report)]),
        Fold("Files as the roles render them", [*_files(report)]),
        Fold("Drift", [*_whole_drift(report)]),
        Fold("Policies, rules and waivers", [*_whole_remarks(report)]),
        Fold("Not checked", list(report.unchecked)),
    )
    yield from (fold for fold in every if fold.lines)


def _operations(report: Report) -> Iterator[str]:
    for operation in report.operations:
        if operation.destroys:
            causes = f": {wording.quoted(', '.join(operation.causes))}" if operation.causes else ""
            yield f"{operation.op} {wording.quoted(operation.name)}{causes}"
    for operation in report.operations:
        if operation.op not in reports.KNOWN:
            yield f"{wording.quoted(f'{operation.op} {operation.name}')}: this release does not know what that is"


def _whole_effect(line: Line) -> Iterator[str]:
    yield f"{', '.join(line.nodes)}: {line.action}{line.time}"
    yield from (f"  {wording.quoted(reason)}" for reason in line.because)


def _whole_vulnerabilities(report: Report) -> Iterator[str]:
    for entry in report.vulnerabilities:
        yield f"{'closes' if entry.closed else 'opens'} {entry.name}: {wording.quoted(entry.what)}"


def _files(report: Report) -> Iterator[str]:
    """Yield each changed file with its changed lines, once for nodes where they change alike."""
    for file in report.prediction.files:
        part = "" if file.whole else " (in part: the host or the run decides the rest)"
        yield f"{wording.quoted(file.path)} on {', '.join(file.nodes)}{part}"
        yield from (f"  {wording.verbatim(line)}" for line in file.lines)


def _whole_drift(report: Report) -> Iterator[str]:
    """Yield each difference once, with the nodes that have it."""
    nodes: dict[str, list[str]] = {}
    for urn, basis in report.prediction.basis.items():
        for difference in basis.drift:
            nodes.setdefault(str(difference), []).append(urn.rpartition("::")[2])
    for words, names in nodes.items():
        yield f"{', '.join(dict.fromkeys(names))}: {wording.quoted(words)}"


def _whole_remarks(report: Report) -> Iterator[str]:
    for remark in report.remarks:
        yield f"{'mandatory' if remark.mandatory else 'advisory'} {remark.rule}: {', '.join(remark.about)}"
        yield from (f"  {wording.quoted(line)}" for line in remark.words.splitlines())
    for waiver in report.waivers:
        yield f"waived until {waiver.until}: {wording.quoted(f'{waiver.rule}: {waiver.reason}')}"


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
