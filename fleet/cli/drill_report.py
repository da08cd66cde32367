"""The report of a drill: seconds by phase against their budgets, what had to be the same and is, as Markdown and JSON. Opens no connection.

Reports are kept beside the evidence of the probes; the earlier ones say since when a phase is too slow.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydantic

from fleet.cli import common


class Same(pydantic.BaseModel):
    """One thing that must be the same before and after, in short words."""

    what: str
    before: str
    after: str

    @property
    def holds(self) -> bool:
        """Whether it is."""
        return self.before == self.after


class Report(pydantic.BaseModel):
    """One drill. `error` is the first line of what stopped it, "" after a whole one; `phases` are seconds, `budgets` those of the stack file then."""

    stack: str
    node: str
    began: datetime.datetime
    commit: str = ""
    phases: dict[str, float] = {}
    budgets: dict[str, float] = {}
    same: list[Same] = []
    error: str = ""

    @property
    def over(self) -> dict[str, float]:
        """The phases over their budget, with their seconds."""
        return {name: self.phases[name] for name, most in self.budgets.items() if self.phases.get(name, 0) > most}

    @property
    def passed(self) -> bool:
        """Whether the drill was whole, within its budgets, and left everything as it was."""
        return not self.error and not self.over and all(each.holds for each in self.same)


def folder(stack: str) -> Path:
    """Return the folder of a stack's reports."""
    return common.state_folder() / "evidence" / stack / "drills"


def earlier(stack: str, node: str) -> list[Report]:
    """Return the whole drills of a node, the oldest first; a file that is no report is left out."""
    reports = []
    for path in sorted(folder(stack).glob(f"{node}-*.json")):
        try:
            reports.append(Report.model_validate_json(path.read_text()))
        except ValueError:
            continue
    return sorted((each for each in reports if each.node == node and not each.error), key=lambda each: each.began)


def write(report: Report, before: Sequence[Report]) -> Path:
    """Write a report as JSON and as Markdown; return the path of the latter."""
    target = folder(report.stack)
    target.mkdir(parents=True, exist_ok=True)
    stem = f"{report.node}-{report.began:%Y%m%d-%H%M%S}"
    (target / f"{stem}.json").write_text(json.dumps(report.model_dump(mode="json"), indent=1) + "\n")
    page = target / f"{stem}.md"
    page.write_text(markdown(report, before))
    return page


def since(phase: str, report: Report, before: Sequence[Report]) -> str:
    """Return since when a phase over its budget is that slow."""
    most = report.budgets[phase]
    timed = [each for each in before if phase in each.phases]
    if not timed:
        return "no earlier drill to compare with"
    within = [place for place, each in enumerate(timed) if each.phases[phase] <= most]
    if not within:
        return f"over it in each drill since {_day(timed[0])}"
    last, later = timed[within[-1]], timed[within[-1] + 1 :]
    first = _day(later[0]) if later else "this drill"
    return f"{last.phases[phase]:.0f} s on {_day(last)}, over it since {first}"


def _day(report: Report) -> str:
    return f"{report.began:%Y-%m-%d}"


def verdict(report: Report, before: Sequence[Report]) -> list[str]:
    """Return what failed, a line each; the first line is the verdict."""
    if report.error:
        return [f"the drill stopped: {report.error}"]
    lines = [
        f"{name}: {seconds:.0f} s, budget {report.budgets[name]:.0f} s: {since(name, report, before)}"
        for name, seconds in report.over.items()
    ]
    lines += [f"{each.what}: {each.before} before, {each.after} after" for each in report.same if not each.holds]
    total = f"{report.phases['total']:.0f} s"
    if not lines:
        return [f"{report.node}: serves again after {total}, as before"]
    return [f"{report.node}: serves again after {total}, and the drill failed:", *lines]


def markdown(report: Report, before: Sequence[Report]) -> str:
    """Return the report as a page."""
    first, *more = verdict(report, before)
    head = f"# Drill of {report.node}, stack {report.stack}, {report.began:%Y-%m-%d %H:%M} UTC"
    commit = [f"Commit {report.commit}.", ""] if report.commit else []
    rows = [_row(name, seconds, report.budgets, before) for name, seconds in report.phases.items()]
    table = ["| phase | seconds | budget | drill before |", "|---|---|---|---|", *rows]
    kept = [f"| {each.what} | {each.before} | {'the same' if each.holds else each.after} |" for each in report.same]
    same = ["", "| must be the same | before | after |", "|---|---|---|", *kept] if kept else []
    text = [head, "", *commit, first, *(f"- {line}" for line in more), "", *(table if rows else []), *same]
    return "\n".join(text).rstrip() + "\n"


def _row(name: str, seconds: float, budgets: Mapping[str, float], before: Sequence[Report]) -> str:
    earlier_seconds = before[-1].phases.get(name) if before else None
    shown = "-" if earlier_seconds is None else f"{earlier_seconds:.0f}"
    budget = f"{budgets[name]:.0f}" if name in budgets else "-"
    return f"| {name} | {seconds:.0f} | {budget} | {shown} |"
