"""What `fleet accept` prints: a table, a message for each test that a machine did not pass, or JSON. Pure.

Called by accept.py, also for the head of the file that it keeps.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from fleet import errors
from fleet.acceptance.evaluate import Measurement, figure
from fleet.cli import table

HEAD = ("node", "test", "measured", "at least", "verdict")


@dataclass(frozen=True)
class Report:
    """What was measured on one node, the file with all that was printed, what stays there; or why nothing could be measured."""

    node: str
    verdicts: list[Measurement] = field(default_factory=list)  # its name in JSON
    evidence: str = ""
    error: str = ""
    stays: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every test was ok."""
        return not self.error and all(one.ok for one in self.verdicts)


def as_table(reports: Sequence[Report]) -> str:
    """Return a line a test."""
    return table.columns([HEAD, *(row for report in reports for row in _rows(report))])


def _rows(report: Report) -> list[tuple[str, ...]]:
    if report.error:
        return [(report.node, "-", "-", "-", "could not measure")]
    return [
        (report.node, one.test, figure(one.measured, one.unit), figure(one.at_least, one.unit), one.state)
        for one in report.verdicts
    ]


def problems(reports: Sequence[Report]) -> list[str]:
    """Return a message for each test that was not ok, and for each node where nothing could be measured."""
    messages = [report.error for report in reports if report.error]
    messages += [_message(report, one) for report in reports for one in report.verdicts if not one.ok]
    return messages + [f"{report.node}: stays: {words}" for report in reports for words in report.stays]


def _message(report: Report, one: Measurement) -> str:
    measured = figure(one.measured, one.unit)
    seen = f"{measured}{f' on {one.seen}' if one.seen else ''}" if one.state == "below" else f"{one.state}: {one.seen}"
    after = {
        "below": "`fleet preflight` tells what slows a machine down; measure again; then it is the hardware's maker's",
        "failed": "is the program in the image, and under that name? `acceptance.commands` of the stack file has others",
        "unreadable": "compare with the pattern in fleet/acceptance/mi300x.yml: the program may print otherwise in its newest version",
    }.get(one.state, "look at the load of the machine and at `dmesg` there, then measure again")
    message = errors.FleetError(
        node=report.node,
        doing=one.test,
        seen=seen,
        wanted=f"at least {figure(one.at_least, one.unit)}",
        next=f"{report.evidence} has all that it printed;\n{after}",
    )
    return str(message)


def summary(report: Report) -> str:
    """Return how a node did in a few words, for the progress."""
    if report.error:
        return "could not measure"
    count = sum(not one.ok for one in report.verdicts)
    return f"{len(report.verdicts) - count} of {len(report.verdicts)} tests passed"


def to_json(reports: Sequence[Report]) -> str:
    """Return the reports as JSON."""
    return json.dumps([asdict(report) for report in reports], indent=1)
