"""The change matrix reads from a report what the lines of the same preview say, and notices where the two differ."""

import pytest

from fleet.impact import forecast
from fleet.impact.effects import Effect
from fleet.impact.forecast import Change
from fleet.review.report import Report
from tests.support import forecast_reader, report_reader, review_reports
from tests.support.forecast_reader import Prediction

UNITS = ("glm-0", "glm-1")
EFFECTS = {
    "reboot": Effect("reboot", (), ("a 1 -> 2",)),
    "restart": Effect("restart", UNITS, ("a 1 -> 2",)),
    "may restart": Effect("restart", ("docker.service and every replica",), ("a",), sure=False),
    "reload": Effect("reload", ("docker.service",), ("a",)),
    "start": Effect("start", ("glm-1",), ("a",)),
    "stop": Effect("stop", ("glm-1",), ("a",)),
    "await": Effect("await", (), ("its Docker daemon restarts",)),
    "repair": Effect("repair", (), ("file /a (absent, wanted present)",)),
    "nothing": Effect("none", (), ("a",)),
    "new": Effect("new", ("Host",), ()),
}
BOTH = ("prod-1", "prod-2")


def made(*changes: Change) -> Report:
    """Return a report with these changes alone."""
    return Report("prod", review_reports.prediction(BOTH, changes), (), review_reports.EVIDENCE)


@pytest.mark.parametrize("name", EFFECTS)
def test_a_report_has_for_a_node_what_the_preview_s_lines_have(name: str) -> None:
    changes = [Change("prod-1", EFFECTS[name], 60.0, "Host"), Change("prod-2", EFFECTS["reboot"], None, "Host")]
    lines = "".join(f"    {line}\n" for line in forecast.lines(changes, 4))
    text = forecast_reader.predictions(f"\nDiagnostics:\n{lines}\nOutputs:\n", "prod-1")
    from_report = report_reader.predictions(made(*changes), "prod-1")
    assert len(text) == 1
    assert report_reader.disagreement(text, from_report) == []


def test_a_report_that_has_less_than_the_lines_is_noticed() -> None:
    text = [Prediction("restart", False, UNITS, "a"), Prediction("reboot", False, (), "a")]
    from_report = report_reader.predictions(made(Change("prod-1", EFFECTS["restart"], 60.0, "Serving")), "prod-1")
    assert report_reader.disagreement(text, from_report) == [
        "the preview's lines have [('reboot', False, ()), ('restart', False, ('glm-0', 'glm-1'))], "
        "its report [('restart', False, ('glm-0', 'glm-1'))]"
    ]
