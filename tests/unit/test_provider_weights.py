"""The resource Weights of a machine that shares them: its certificates, what its run gets, and that neighbours alone cause no run.

Without a machine: the run of the playbook is a stand-in. The clock is that of fleet.certificates.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from fleet import certificates
from fleet.ansible import converge
from fleet.impact import effects
from fleet.managed import managed_set
from fleet.provider.kinds import kinds
from fleet.provider.properties import UNKNOWN, Props
from fleet.provider.slots import Slots
from fleet.provider.weights import Weights
from tests.support.gateway_resource import NODE, Travel, authority, request
from tests.support.right_outputs import RIGHT

pytestmark = pytest.mark.usefixtures("travel")

PLACES = [{"name": f"glm-{number}", "address": f"10.0.0.1{number}", "port": 8445, "first": True} for number in (1, 2)]


class Runs:
    """Stands in for the runs of the playbook: keeps the jobs."""

    def __init__(self) -> None:
        self.jobs: list[converge.Job] = []

    def __call__(self, job: converge.Job, *_: Any) -> converge.Outcome:
        self.jobs.append(job)
        return converge.Outcome({"fleet_weights": RIGHT["Weights"]}, managed_set.Declared(), 0, 1, {"weights": 3.0})


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def weights(runs: Runs) -> Weights:
    outputs = ("path", "revision", "bytes", "files", "manifest", "certificates", "ends")
    return Weights("Weights", outputs, Slots(), run=runs, read=lambda *_: [{}])


def inputs_of(signer: Props | None = None, **more: Any) -> Props:
    """Return the inputs of glm-1, which shares its weights if there is an authority."""
    variables: dict[str, Any] = {"weights_revision": "ab" * 20}
    keys: dict[str, Any] = {}
    if signer:
        variables |= {"weights_name": "glm-1", "weights_address": "10.0.0.11"}
        keys = {"authority": signer["certificate"], "authority_key": signer["private"], "neighbours": PLACES}
    return {"node": NODE, "roles": {"weights": ""}, "vars": variables, **keys, **more}


def applied(weights: Weights, inputs: Props, old: Props | None = None) -> Props:
    return weights.apply(request("Weights"), inputs, old)


def test_a_machine_that_shares_has_a_certificate_as_server_and_one_as_client(weights: Weights, runs: Runs) -> None:
    signer = authority()
    state = applied(weights, inputs_of(signer))
    assert {name: certificates.hosts(pem) for name, pem in state["certificates"].items()} == {
        "server": ["glm-1"],
        "client": [],
    }
    assert state["ends"] == dict.fromkeys(("server", "client"), "2027-03-01")
    (job,) = runs.jobs
    assert job.secrets["WEIGHTS_AUTHORITY"] == signer["certificate"]
    assert {job.secrets["WEIGHTS_SERVER_PEM"], job.secrets["WEIGHTS_CLIENT_PEM"]} == {*state["certificates"].values()}
    assert job.data["weights_neighbours"] == PLACES
    assert "PRIVATE" not in str({**job.variables, **job.data})
    assert signer["private"] not in str(job.secrets)


def test_a_machine_that_does_not_share_gets_nothing_of_it(weights: Weights, runs: Runs) -> None:
    state = applied(weights, inputs_of())
    assert (state["certificates"], state["ends"]) == ({}, {})
    (job,) = runs.jobs
    assert not [name for name in job.secrets if name.startswith("WEIGHTS_")] and "weights_neighbours" not in job.data


def test_a_neighbour_without_an_address_is_left_out(weights: Weights, runs: Runs) -> None:
    applied(weights, inputs_of(authority(), neighbours=[None, PLACES[1]]))
    assert runs.jobs[0].data["weights_neighbours"] == PLACES[1:]


def test_certificates_stay_until_their_last_thirty_days(weights: Weights, travel: Travel) -> None:
    inputs = inputs_of(authority())
    first = applied(weights, inputs)
    travel(59)
    assert weights.due(first) == {} and applied(weights, inputs, first)["certificates"] == first["certificates"]
    travel(60)
    assert weights.due(first) == {"certificates": "its certificate ends 2027-03-01, renewed"}
    (effect,) = weights.effects(inputs, inputs, first)
    words = "changes glm-1, nothing restarts: its certificate ends 2027-03-01, renewed"
    assert effects.in_words(effect, "glm-1") == words
    assert weights.planned_outputs(inputs, inputs, first)["ends"] == UNKNOWN
    assert applied(weights, inputs, first)["ends"] == dict.fromkeys(("server", "client"), "2027-04-30")


def test_a_state_of_an_earlier_release_gets_certificates_when_it_shares(weights: Weights) -> None:
    old: Props = {**inputs_of(), **RIGHT["Weights"], "drift": []}
    planned: Mapping[str, Any] = weights.planned_outputs(inputs_of(), inputs_of(), old)
    assert not {"certificates", "ends"} & planned.keys()
    planned = weights.planned_outputs(inputs_of(authority()), inputs_of(), old)
    assert (planned["certificates"], planned["ends"], planned["path"]) == (UNKNOWN, UNKNOWN, RIGHT["Weights"]["path"])


def test_a_machine_that_stops_sharing_forgets_its_certificates(weights: Weights) -> None:
    old = applied(weights, inputs_of(authority()))
    assert weights.planned_outputs(inputs_of(), inputs_of(), old)["ends"] == {}
    assert applied(weights, inputs_of(), old)["certificates"] == {}


def test_other_neighbours_alone_cause_no_run() -> None:
    assert "neighbours" in kinds(Slots())["Weights"].ignored_inputs
