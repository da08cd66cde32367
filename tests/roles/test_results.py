"""Claims about the four runs of each playbook (check, run, run, check): only the first real one changes something, and every result has the form in fleet/provider/outputs.py."""

import pytest

from fleet.provider import outputs
from tests.support.role_node import Place, Runs

FIXTURES = {"built": "Image", "fetched": "Weights", "served": "Serving"}


@pytest.fixture(params=FIXTURES)
def runs(request: pytest.FixtureRequest) -> Runs:
    """The runs of one playbook; those of host.yml are in test_host.py, which has them on two systems."""
    runs: Runs = request.getfixturevalue(request.param)
    return runs


def test_check_mode_changes_nothing(runs: Runs) -> None:
    assert runs.check.rc == 0, runs.check.message
    assert runs.left_by_check == []


def test_the_first_run_succeeds_and_the_second_changes_nothing(runs: Runs) -> None:
    assert runs.first.rc == 0, runs.first.message
    assert (runs.second.rc, runs.second.changed) == (0, [])


def test_check_mode_after_a_run_reports_no_change(runs: Runs) -> None:
    assert (runs.last_check.rc, runs.last_check.changed) == (0, [])


@pytest.mark.parametrize(("runs", "kind"), FIXTURES.items(), indirect=["runs"])
def test_the_results_of_a_run_are_all_outputs_in_their_forms(ready: Place, runs: Runs, kind: str) -> None:
    results = runs.second.results[f"fleet_{kind.lower()}"]
    assert outputs.check_results(kind, ready.node, results, "go on") == results
    assert results.keys() == outputs.RESULTS[kind].keys()


def test_the_results_of_a_host_are_all_outputs_in_their_forms(place: Place, hosted: Runs) -> None:
    results = hosted.second.results["fleet_host"]
    assert outputs.check_results("Host", place.node, results, "go on") == results
    assert results.keys() == outputs.RESULTS["Host"].keys()
