"""The resources Authority and Gateway: what an update issues and renews, what a preview says about it, and which way keys take.

Without a machine: the run of the playbook is a stand-in. The clock is that of fleet.certificates.
"""

from typing import Any

import pytest
from cryptography import x509

from fleet import certificates, errors
from fleet.impact import effects
from fleet.provider.authority import Authority
from fleet.provider.base import InitFailed
from fleet.provider.gateway import Gateway
from fleet.provider.properties import UNKNOWN, Props
from fleet.provider.slots import Slots
from tests.support.gateway_resource import CLIENTS, NAMES, START, Runs, Travel, authority, inputs_of, request

pytestmark = pytest.mark.usefixtures("travel")


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def gateway(runs: Runs) -> Gateway:
    return Gateway("Gateway", ("version", "certificates", "ends"), Slots(), run=runs, read=lambda *_: [{}])


def words(planned: list[effects.Effect]) -> list[str]:
    return [effects.in_words(effect, "glm-1") for effect in planned]


@pytest.mark.parametrize(
    ("faces", "names"),
    [
        (["node"], {"node": ["glm-1", "10.0.0.11"]}),
        (["clients"], {"client": [], "server": NAMES}),
        (["node", "clients"], {"node": ["glm-1", "10.0.0.11"], "client": [], "server": NAMES}),
    ],
)
def test_a_machine_has_the_certificates_of_its_own_proxies_only(
    gateway: Gateway, runs: Runs, faces: list[str], names: dict[str, list[str]]
) -> None:
    signer = authority()
    state = gateway.apply(request(), inputs_of(signer, *faces), None)
    assert {name: certificates.hosts(pem) for name, pem in state["certificates"].items()} == names
    assert state["ends"] == dict.fromkeys(names, "2027-03-01")
    assert state["version"] == "2.8.16"
    (job,) = runs.jobs
    pems = {f"GATEWAY_{name.upper()}_PEM": pem for name, pem in state["certificates"].items()}
    assert job.secrets == {"VLLM_API_KEY": "inner-0123456789", "GATEWAY_AUTHORITY": signer["certificate"], **pems}
    assert job.data["gateway_clients"] == CLIENTS
    assert "PRIVATE" not in str({**job.variables, **job.data})
    assert signer["private"] not in str(job.secrets)


def test_a_second_gateway_gives_each_a_certificate_for_the_other_and_reloads_nothing_else(gateway: Gateway) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    peers = [{"name": name, "address": f"10.0.0.1{name[-1]}"} for name in ("glm-1", "glm-2")]
    alone = gateway.apply(request(), with_vars(inputs, gateway_peers=peers[:1]), None)
    assert "peer" not in alone["certificates"]
    several = with_vars(inputs, gateway_peers=peers)
    assert gateway.planned_outputs(several, inputs, alone)["certificates"] == UNKNOWN
    assert gateway.effects(alone, several, alone)[0].what[-1] == "fleet-gateway"
    state = gateway.apply(request(), several, alone)
    assert certificates.hosts(state["certificates"].pop("peer")) == ["glm-1", "10.0.0.11"]
    assert state["certificates"] == alone["certificates"]


def test_a_reissue_gives_the_proxies_of_a_machine_new_keys_under_a_new_name(gateway: Gateway) -> None:
    peers = [{"name": name, "address": "10.0.0.11"} for name in ("glm-1", "glm-2")]
    inputs = with_vars(inputs_of(authority(), "node", "clients"), gateway_peers=peers)
    first = gateway.apply(request(), inputs, None)
    again = {**inputs, "own_names": ["glm-1.r1", "glm-1"]}
    assert words(gateway.effects(inputs, again, first)) == [
        "reloads fleet-proxy, fleet-gateway on glm-1: "
        "the names of its certificate change from glm-1, 10.0.0.11 to glm-1.r1, glm-1, 10.0.0.11",
        "reloads fleet-gateway on glm-1: the name in its certificate changes from glm-1 to glm-1.r1",
    ]
    second = gateway.apply(request(), again, first)
    held, old = second["certificates"], first["certificates"]
    assert [name for name in held if key_of(held[name]) != key_of(old[name])] == ["node", "client", "peer"]
    for name in ("node", "peer"):
        assert "glm-1.r1" in certificates.hosts(held[name]), "which the others demand from now on"
        assert "glm-1.r1" not in certificates.hosts(old[name])
        assert "glm-1" in certificates.hosts(held[name]), "for those that have not heard of it yet"
    assert common_name(held["client"]) == "glm-1.r1"
    assert gateway.apply(request(), again, second)["certificates"] == held


def test_another_authority_signs_every_certificate_again(gateway: Gateway) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    first = gateway.apply(request(), inputs, None)
    other = authority()
    after = {**inputs, "authority": other["certificate"], "authority_key": other["private"]}
    assert "another authority has signed its certificate" in words(gateway.effects(inputs, after, first))[0]
    second = gateway.apply(request(), after, first)
    assert all(key_of(pem) != key_of(first["certificates"][name]) for name, pem in second["certificates"].items())


def key_of(pem: str) -> str:
    return pem[pem.index("-----BEGIN PRIVATE") :]


def common_name(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string().removeprefix("CN=")


def with_vars(inputs: Props, **more: Any) -> Props:
    return {**inputs, "vars": {**inputs["vars"], **more}}


def test_the_certificates_stay_and_are_written_again_by_each_run(gateway: Gateway, runs: Runs, travel: Travel) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    first = gateway.apply(request(), inputs, None)
    travel(59)
    assert gateway.due(first) == {}
    assert gateway.planned_outputs(inputs, inputs, first)["certificates"] == first["certificates"]
    second = gateway.apply(request(), inputs, first)
    assert second["certificates"] == first["certificates"]
    assert runs.jobs[0].secrets == runs.jobs[1].secrets


def test_a_preview_says_that_a_certificate_is_renewed_and_an_update_renews_it(gateway: Gateway, travel: Travel) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    first = gateway.apply(request(), inputs, None)
    travel(60)
    assert gateway.due(first) == {"certificates": "its certificate ends 2027-03-01, renewed"}
    assert words(gateway.effects(inputs, inputs, first)) == [
        "reloads fleet-proxy, fleet-gateway on glm-1: its certificate ends 2027-03-01, renewed"
    ]
    planned = gateway.planned_outputs(inputs, inputs, first)
    assert (planned["certificates"], planned["ends"], planned["version"]) == (UNKNOWN, UNKNOWN, "2.8.16")
    renewed = gateway.apply(request(), inputs, first)
    assert {*renewed["ends"].values()} == {"2027-04-30"}
    assert (gateway.due(renewed), renewed["took"]) == ({}, {"new": 3.0, "reload": 3.0})


def test_only_the_certificate_that_changes_is_issued(gateway: Gateway) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    first = gateway.apply(request(), inputs, None)
    more = {**inputs, "names": [*NAMES, "glm2.example.com"]}
    assert words(gateway.effects(inputs, more, first)) == [
        "reloads fleet-gateway on glm-1: the names of its certificate change from glm.example.com, 192.0.2.1 "
        "to glm.example.com, 192.0.2.1, glm2.example.com"
    ]
    second = gateway.apply(request(), more, first)
    assert [name for name, pem in second["certificates"].items() if first["certificates"][name] != pem] == ["server"]


def test_a_failed_run_keeps_the_certificates_that_it_may_have_written(gateway: Gateway, runs: Runs) -> None:
    runs.error = errors.ConvergeFailed(node="glm-1", doing="gateway", seen="it broke")
    inputs = inputs_of(authority(), "node")
    with pytest.raises(InitFailed) as caught:
        gateway.apply(request(), inputs, None)
    runs.error = None
    again = gateway.apply(request(), inputs, caught.value.properties)
    assert again["certificates"] == caught.value.properties["certificates"]


def test_a_new_key_reloads_the_proxy_that_has_it_and_restarts_nothing(gateway: Gateway) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    first = gateway.apply(request(), inputs, None)
    assert words(gateway.effects(inputs, {**inputs, "inner_key": "inner-9876543210"}, first)) == [
        "reloads fleet-proxy on glm-1: the API key changed"
    ]


def test_the_authority_is_renewed_in_its_last_year_with_the_same_key(gateway: Gateway, travel: Travel) -> None:
    first = authority()
    assert first["ends"] == "2036-11-28"
    travel(3284)
    assert (Authority().due(first), authority(first)) == ({}, first)
    travel(3285)
    reason = "its certificate ends 2036-11-28, renewed"
    assert Authority().due(first) == {"certificate": reason}
    assert Authority().effects({}, {}, first) == [effects.Effect("none", (), (reason,))]
    planned = Authority().planned_outputs({}, {}, first)
    assert planned == {"certificate": UNKNOWN, "private": first["private"], "ends": UNKNOWN}
    second = authority(first)
    assert (second["private"], second["ends"]) == (first["private"], "2045-11-26")


def test_a_renewed_authority_reloads_the_proxies_and_their_certificates_stay(gateway: Gateway, travel: Travel) -> None:
    signer = authority()
    inputs = inputs_of(signer, "clients")
    state = gateway.apply(request(), inputs, None)
    renewal = ["reloads fleet-gateway on glm-1: the certificate of the stack's authority is renewed"]
    assert words(gateway.effects(inputs, {**inputs, "authority": UNKNOWN}, state)) == renewal
    assert gateway.planned_outputs({**inputs, "authority": UNKNOWN}, inputs, state)["certificates"] == UNKNOWN
    renewed = certificates.renewed_authority(signer["certificate"], signer["private"], START)
    after = {**inputs, "authority": renewed}
    assert words(gateway.effects(inputs, after, state)) == renewal
    assert gateway.apply(request(), after, state)["certificates"] == state["certificates"]


def test_a_certificate_of_the_user_s_own_is_never_ours_to_renew(gateway: Gateway, runs: Runs, travel: Travel) -> None:
    signer, other = authority(), certificates.new_authority("another", START)
    own = certificates.issue(certificates.Wanted("server", NAMES[0], tuple(NAMES)), *other, START)
    place = own.index("-----BEGIN PRIVATE")
    files = {"chain": own[:place], "gateway_key": own[place:]}
    inputs = inputs_of(signer, "clients", **files)
    state = gateway.apply(request(), inputs, None)
    assert runs.jobs[0].secrets["GATEWAY_SERVER_PEM"] == own
    travel(80)
    assert gateway.due(state) == {"certificates": "its certificate ends 2027-03-01, renewed"}, "that of the client"
    assert gateway.due({**state, "ends": {"server": "2027-03-01"}}) == {}
    assert words(gateway.effects(inputs, {**inputs, "chain": f"{own[:place]}\n"}, {**state, "ends": {}}))[0] == (
        "reloads fleet-gateway on glm-1: its own certificate changed; its certificate ends 2027-03-01, renewed"
    )


def test_a_stack_whose_variables_are_still_unknown_says_what_it_knows(gateway: Gateway) -> None:
    inputs = inputs_of(authority(), "node", "clients")
    state = gateway.apply(request(), inputs, None)
    planned = gateway.planned_outputs({**inputs, "vars": UNKNOWN}, inputs, state)
    assert planned["certificates"] == UNKNOWN
    assert gateway.effects(inputs, {**inputs, "vars": UNKNOWN}, state)[0].what == ("fleet-proxy", "fleet-gateway")
