"""What each role tells has the form that the provider asks for (fleet/provider/outputs.py), and nothing that it tells is left without one."""

import pytest

from fleet.provider import outputs
from tests.support.role_node import Place, Runs


@pytest.mark.parametrize(("fixture", "kind"), [("built", "Image"), ("fetched", "Weights"), ("served", "Serving")])
def test_what_a_role_tells_are_all_outputs_in_their_forms(
    request: pytest.FixtureRequest, ready: Place, fixture: str, kind: str
) -> None:
    runs: Runs = request.getfixturevalue(fixture)
    results = runs.second.results[f"fleet_{kind.lower()}"]
    assert outputs.check_results(kind, ready.node, results, "go on") == results
    assert results.keys() == outputs.RESULTS[kind].keys()


def test_what_the_roles_of_a_host_tell_are_all_outputs_in_their_forms(place: Place, hosted: Runs) -> None:
    results = hosted.second.results["fleet_host"]
    assert outputs.check_results("Host", place.node, results, "go on") == results
    assert results.keys() == outputs.RESULTS["Host"].keys()
