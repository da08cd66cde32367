"""The reports of `fleet accept`: a table, a message for each test that a machine did not pass, or JSON. Pure.

Called by accept.py, also for the first lines of the evidence file.
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
    """The measurements of one node, the file with the whole output, what stays on the node; or why nothing could be measured."""

    node: str
    verdicts: list[Measurement] = field(default_factory=list)  # its name in JSON
    evidence: str = ""
    error: str = ""
    stays: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every test was ok."""
        return not self.error and all(item.ok for item in self.verdicts)


def as_table(reports: Sequence[Report]) -> str:
    """Return a table with one line per test."""
    return table.columns([HEAD, *(row for report in reports for row in _rows(report))])


def _rows(report: Report) -> list[tuple[str, ...]]:
    if report.error:
        return [(report.node, "-", "-", "-", "could not measure")]
    return [
        (report.node, item.test, figure(item.measured, item.unit), figure(item.at_least, item.unit), item.state)
        for item in report.verdicts
    ]


def problems(reports: Sequence[Report]) -> list[str]:
    """Return a message for each test that was not ok, and for each node where nothing could be measured."""
    messages = [report.error for report in reports if report.error]
    messages += [_message(report, item) for report in reports for item in report.verdicts if not item.ok]
    return messages + [f"{report.node}: remains: {words}" for report in reports for words in report.stays]


def _message(report: Report, measurement: Measurement) -> str:
    measured, where = (
        figure(measurement.measured, measurement.unit),
        f" on {measurement.seen}" if measurement.seen else "",
    )
    next_step = {
        "below": "`fleet preflight` shows what slows a machine down; measure again; then ask the vendor of the hardware",
        "failed": "is the program in the image, and under that name? `acceptance.commands` of the stack file sets another",
        "unreadable": "compare with the pattern in fleet/acceptance/mi300x.yml: a newer version of the program may print another form",
    }.get(measurement.state, "look at the load of the machine and at `dmesg` there, then measure again")
    message = errors.FleetError(
        node=report.node,
        doing=measurement.test,
        seen=f"{measured}{where}" if measurement.state == "below" else f"{measurement.state}: {measurement.seen}",
        wanted=f"at least {figure(measurement.at_least, measurement.unit)}",
        next=f"{report.evidence} has all that it printed;\n{next_step}",
    )
    return str(message)


def summary(report: Report) -> str:
    """Return the result of a node in a few words, for a progress line."""
    if report.error:
        return "could not measure"
    return f"{sum(item.ok for item in report.verdicts)} of {len(report.verdicts)} tests passed"


def to_json(reports: Sequence[Report]) -> str:
    """Return the reports as JSON."""
    return json.dumps([asdict(report) for report in reports], indent=1)
