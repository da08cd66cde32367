"""Reads what a report of `fleet review` predicts for one node, for a comparison with what happened, and the report of a preview of its own.

Needs `pulumi`, through tests.support.e2e.Road. Called by testbed.py and tests/unit/test_suite_report_reader.py.
"""

import json

from fleet.cli import preview
from fleet.impact import forecast
from fleet.review import build, events, report
from fleet.review.report import Evidence, Report
from tests.support.e2e import STACK, Road
from tests.support.environment import expect_success
from tests.support.forecast_reader import Prediction

# The words of a level in a preview's lines, where they are not the level's name.
WORDS = {
    "none": "nothing restarts",
    "repair": "repair what drifted, nothing restarts",
    "await": "await the replicas and probe them again",
    "new": "set up",
}


def predictions(made: Report, node: str) -> list[Prediction]:
    """Return what the report predicts for a node, in the words of a preview's lines."""
    changes = [change for change in made.prediction.changes if change.node == node]
    return [
        Prediction(WORDS.get(line.effect.level, line.effect.level), not line.effect.sure, line.effect.what, "")
        for line in forecast.alike(changes, made.prediction.parallel)
    ]


def disagreement(from_text: list[Prediction], from_report: list[Prediction]) -> list[str]:
    """Return in words where a preview's lines and the report of the same preview differ about a node, whatever the reasons."""
    text, own = (sorted((line.level, line.may, line.whom) for line in lines) for lines in (from_text, from_report))
    return [f"the preview's lines have {text}, its report {own}"] if text != own else []


def review(road: Road) -> tuple[str, Report]:
    """Preview without the policies; return the text, and the report as it is read back from its file."""
    log = road.home / ".pulumi" / "review-events"
    log.unlink(missing_ok=True)
    switches = [f"{name}={value}" for name, value in preview.EVENTS.items()]
    options = ("--event-log", str(log), "--stack", STACK, "--color", "never")
    text = expect_success(road.run("env", *switches, "pulumi", "preview", *options))
    with log.open() as lines:
        made = build.report(
            events.read(lines), build.Stack(STACK), Evidence("", False, "", hosts=False), policies=False
        )
    assert not made.failures, made.failures
    return text, report.read(json.dumps(made.to_json()), "the report of the preview")
