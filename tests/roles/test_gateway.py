"""Claims about the role gateway (playbooks/gateway.yml): two nodes with both proxies each, HAProxy 2.8 and 2.6, before stand-ins for replicas.

The later claims change a node and restore it; the last one removes the proxies.
"""

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import gateway_fleet, gateway_pki, labs, neighbour
from tests.support.gateway_fleet import (
    KEYS,
    NODE,
    REPLICAS,
    Answer,
    Fleet,
    exchange,
    received,
    request,
    strangers,
    trust,
)
from tests.support.gateway_refusals import CHAT, CHUNK, MODELS, PLENTY, REFUSED
from tests.support.playbook import Run
from tests.support.role_node import KEY, Place

UNITS = ("fleet-proxy", "fleet-gateway")
HELD_BACK = 0.15  # seconds; 0.2 and more where HAProxy holds tokens back, 0.001 where it does not
UP = {"ubuntu": "UP", "debian": "UP"}
Until = Callable[..., None]


@pytest.fixture(scope="module")
def fleet(ubuntu: Place, debian: Place) -> Fleet:
    return Fleet({"ubuntu": ubuntu, "debian": debian}, gateway_pki.authority())


@pytest.fixture(scope="module")
def first_check(fleet: Fleet) -> Run:
    return fleet.run("ubuntu", check=True)


@pytest.fixture(scope="module")
def first_runs(fleet: Fleet, first_check: Run) -> dict[str, Run]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(fleet.places, pool.map(fleet.run, fleet.places), strict=True))


@pytest.fixture(scope="module")
def up(fleet: Fleet, first_runs: dict[str, Run], until: Until) -> Fleet:
    """Both nodes serve, and both gateways know it."""
    for name, run in first_runs.items():
        assert run.rc == 0, run.message
        fleet.serve(name, *REPLICAS)
    until(lambda: all(fleet.states(name) == UP for name in fleet.places))
    return fleet


def test_check_mode_reports_the_units_and_changes_nothing(fleet: Fleet, first_check: Run) -> None:
    assert first_check.rc == 0, first_check.message
    assert "Write the units" in first_check.changed


def test_a_second_run_changes_nothing_and_check_mode_says_so(up: Fleet) -> None:
    second, check = up.run("ubuntu"), up.run("ubuntu", check=True)
    assert (second.rc, second.changed, check.rc, check.changed) == (0, [], 0, [])
    version = second.results["fleet_gateway"]["version"]
    assert up.places["ubuntu"].sh("haproxy -v").startswith(f"HAProxy version {version}-")


def test_only_root_and_a_proxys_own_group_read_its_files(up: Fleet) -> None:
    for name in up.places:
        modes = up.places[name].sh("stat -c '%a %U %G %n' /etc/fleet/proxy{,/*} /etc/fleet/gateway{,/*} | sort -u")
        for line in modes.splitlines():
            mode, owner, group, path = line.split()
            assert (mode, owner) == ("640" if path.count("/") == 4 else "750", "root"), line
            assert group == f"fleet-{path.split('/')[3]}", line


def test_the_packages_own_unit_is_off(up: Fleet) -> None:
    for place in up.places.values():
        assert place.sh("systemctl is-active haproxy; systemctl is-enabled haproxy; true").split() == [
            "inactive",
            "disabled",
        ]


@pytest.mark.parametrize("name", REFUSED)
def test_the_gateway_refuses_what_is_not_on_its_list(up: Fleet, name: str) -> None:
    data, statuses = REFUSED[name]
    answer = exchange(up.address("ubuntu"), gateway_fleet.CLIENTS, trust(up.authority), data)
    assert answer.status in statuses, answer
    if answer.status not in (0, 400):  # what is no HTTP gets HAProxy's own words, or none
        assert answer.error["code"] == answer.status and answer.headers["content-type"] == "application/json"


def test_the_gateway_serves_what_is_on_its_list(up: Fleet) -> None:
    for name in up.places:
        assert up.ask(name).status == 200
        answer = up.ask(name, "POST", CHAT, body={"n": "x" * 3_000_000})
        assert (answer.status, json.loads(answer.body)["bytes"]) == (200, 3_000_009)
        assert json.loads(answer.body)["headers"]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("", "200"),
        ("-X POST -H 'Transfer-Encoding: chunked' -d {}", "411"),
        ("--data-binary @/tmp/large", "413"),
    ],
)
def test_http_2_has_the_same_rules(up: Fleet, options: str, status: str) -> None:
    path = CHAT if options else MODELS
    up.places["ubuntu"].sh("truncate --size=65000000 /tmp/large")
    command = f"curl -sk --http2 -o /dev/null -w '%{{http_version}} %{{http_code}}' -H 'Authorization: Bearer {PLENTY}'"
    assert up.places["ubuntu"].sh(f"{command} {options} https://127.0.0.1{path} || true") == f"2 {status}"


def test_over_http_2_a_client_reads_its_refusal_also_before_it_has_sent_its_body(up: Fleet) -> None:
    """As far as the body fits the gateway's buffer: curl drops an answer whose stream is reset."""
    command = "curl -sk --http2 --data-binary @/tmp/body -H 'Authorization: Bearer sk-no' https://127.0.0.1"
    answers = up.places["ubuntu"].sh(
        f"truncate --size=60000 /tmp/body; for try in 1 2 3 4 5 6 7 8; do {command}{CHAT}; done"
    )
    assert answers.count("no such key") == 8, answers


def test_a_node_answers_the_gateways_of_the_stack_alone(up: Fleet) -> None:
    """A certificate of another purpose, machine, authority or time, and none, get no connection; the paths are the gateway's."""
    address = up.address("debian")
    for claim, stranger in strangers(up.authority, "ubuntu", up.node_pems["ubuntu"]).items():
        for path in (MODELS, "/ready"):
            assert received(address, NODE, request("GET", path), stranger) == b"", claim
    right = trust(up.authority, up.client_pems["ubuntu"])
    statuses = {
        path: exchange(address, NODE, right, request("GET", path)).status
        for path in (MODELS, "/ready", "/metrics", "/health")
    }
    assert statuses == {MODELS: 200, "/ready": 200, "/metrics": 404, "/health": 404}
    chunked = request("POST", CHAT, "", ("Transfer-Encoding: chunked",), CHUNK)
    assert exchange(address, NODE, right, chunked).status == 411


def test_a_neighbour_reaches_ssh_and_the_three_ports_of_tls_and_no_http_in_clear(up: Fleet, lab: labs.Lab) -> None:
    node = up.places["ubuntu"].node
    addresses = neighbour.reaches(lab.name, f"{lab.name}-{node.name}", node.address)
    own = [address for address in addresses if address.startswith(f"{node.address}:")]
    assert own == [f"{node.address}:{port}" for port in (22, gateway_fleet.CLIENTS, NODE, gateway_fleet.PEERS)]
    # a Docker daemon of another test may have a bridge, on which a gateway listens, too
    assert {*addresses} - {*own} <= {f"{neighbour.BRIDGE}:{port}" for port in (22, gateway_fleet.CLIENTS)}
    for port in (gateway_fleet.CLIENTS, NODE, gateway_fleet.PEERS):
        assert b"HTTP" not in received(node.address, port, request("GET", MODELS, PLENTY))


def test_metrics_are_on_the_loopback_alone(up: Fleet) -> None:
    for port, backend in ((8405, "replicas"), (8406, "nodes")):
        assert f'proxy="{backend}"' in up.places["ubuntu"].sh(f"curl -sf http://127.0.0.1:{port}/metrics")
        assert exchange(up.address("ubuntu"), port, trust(up.authority), b"").reason == "ConnectionRefusedError"


def test_requests_over_the_limit_of_a_minute_are_refused_and_no_others(up: Fleet, until: Until) -> None:
    answers = [up.ask("ubuntu", key=KEYS["five"]) for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].headers["retry-after"] == "5"
    assert answers[-1].error == {"message": "over the limit of this key: requests", "type": "rate_limited", "code": 429}
    assert up.ask("ubuntu").status == 200
    up.places["ubuntu"].sh("systemctl reload fleet-gateway")
    # The old process gives its counters to the new one, soon after that one serves.
    until(lambda: "key=five " in up.admin("ubuntu", "show table limits-ubuntu", "fleet-gateway"))
    assert up.ask("ubuntu", key=KEYS["five"]).status == 429, "a reload keeps the counters"


def test_bytes_over_the_limit_of_a_minute_are_refused(up: Fleet) -> None:
    answers = [up.ask("ubuntu", "POST", CHAT, KEYS["one-megabyte"], body={"n": "x" * 600_000}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert "megabytes" in answers[-1].error["message"]


def test_more_requests_at_once_than_the_limit_are_refused(up: Fleet) -> None:
    def ask(pause: float) -> Answer:
        return up.ask("ubuntu", "POST", CHAT, KEYS["two-at-once"], body={"pause": pause})

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(ask, 3) for _ in range(2)]
        time.sleep(1)
        third = ask(0)
    assert [run.result().status for run in running] == [200, 200]
    assert third.status == 429 and "concurrent" in third.error["message"]
    assert ask(0).status == 200


def test_the_tokens_of_a_stream_arrive_one_by_one(up: Fleet) -> None:
    """In one stream of five: a busy machine may delay a stream, HAProxy 2.8 delays each if it may hold tokens back."""

    def middle_lag() -> float:
        stream = up.stream("ubuntu", tokens=20, pause=0.25)
        assert len(stream) == 20
        return sorted(arrival - token["sent"] for arrival, token in stream)[10]

    assert any(middle_lag() < HELD_BACK for _ in range(5))


@pytest.mark.exhaustive
def test_a_client_that_never_reads_holds_nobody_up_and_its_stream_ends(up: Fleet, until: Until) -> None:
    """After `gateway_request_timeout` without a byte read: the buffers between it and the replica are full then, and no more."""
    assert up.run("ubuntu", gateway_request_timeout=5).rc == 0
    body = {"stream": True, "tokens": 1_000_000, "pause": 0}
    idle = client(up, "ubuntu")
    idle.request("POST", CHAT, json.dumps(body), {"Authorization": f"Bearer {PLENTY}"})
    for name in up.places:
        assert [up.ask(name).status for _ in range(6)] == [200] * 6
    journal = "journalctl --unit=fleet-gateway --output=cat"
    until(lambda: '"end":"cD' in up.places["ubuntu"].sh(journal))  # the client's timeout, while data was sent
    assert {row["scur"] for row in up.rows("ubuntu", "fleet-gateway", "nodes")} == {"0"}
    idle.close()
    assert up.run("ubuntu").rc == 0


def test_a_drained_node_ends_what_it_has_and_gets_nothing_new_even_after_a_reload_and_a_restart(
    up: Fleet, until: Until
) -> None:
    def requests_of_debian() -> int:
        return sum(
            int(row["stot"]) for row in up.rows("debian", "fleet-proxy", "replicas") if row["svname"] in REPLICAS
        )

    def out_of_rotation(name: str) -> bool:
        # After a restart that outlasts three checks debian is DOWN: HAProxy takes a 404 for draining only from a server that was UP.
        states = up.states(name)
        return states["ubuntu"] == "UP" and states["debian"] in ("NOLB", "DOWN")

    up.admin("debian", "set server admission/node state maint")
    try:
        until(lambda: all(up.states(name) == {"ubuntu": "UP", "debian": "NOLB"} for name in up.places))
        for command in (
            "true",
            "systemctl reload fleet-proxy",
            "systemctl restart fleet-proxy",
            "systemctl reload fleet-gateway",
        ):
            up.places["debian"].sh(command)
            until(lambda: all(map(out_of_rotation, up.places)))
            before = requests_of_debian()
            assert [up.ask(name).status for name in up.places for _ in range(6)] == [200] * 12
            assert requests_of_debian() == before, command
        table = up.admin("debian", "show table gateways")
        assert all(f"key={name} " in table for name in up.places), "the drain reads which gateways have asked since"
    finally:
        up.admin("debian", "set server admission/node state ready")
    until(lambda: all(up.states(name) == UP for name in up.places))


def test_a_stream_goes_on_while_its_node_is_drained_and_its_proxies_reload(up: Fleet, until: Until) -> None:
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(up.stream, "ubuntu", tokens=30, pause=0.2) for _ in range(4)]
        time.sleep(1)
        up.admin("debian", "set server admission/node state maint")
        for place in up.places.values():
            place.sh("systemctl reload fleet-proxy fleet-gateway")
        assert [len(stream.result()) for stream in streams] == [30] * 4
    up.admin("debian", "set server admission/node state ready")
    until(lambda: all(up.states(name) == UP for name in up.places))


def test_a_dead_replica_gets_nothing(up: Fleet, until: Until) -> None:
    up.places["debian"].sh("systemctl kill --signal=KILL stand-1")
    assert [up.ask(name, "POST", CHAT, body={"n": "x" * 3_000_000}).status for name in up.places for _ in range(4)] == [
        200
    ] * 8
    up.serve("debian", "stand-1")
    until(lambda: all(row["status"] == "UP" for row in up.rows("debian", "fleet-proxy", "replicas")))


def test_a_node_without_a_replica_refuses_connections_and_the_other_one_answers(up: Fleet, until: Until) -> None:
    """At once, with bodies that cannot be sent twice: no gateway may wait for its checks."""
    up.places["debian"].sh("systemctl kill --signal=KILL stand-0 stand-1")
    statuses = [up.ask(name, "POST", CHAT, body={"n": "x" * 3_000_000}).status for name in up.places for _ in range(6)]
    right = trust(up.authority, up.client_pems["ubuntu"])
    refused = exchange(up.address("debian"), NODE, right, request("GET", MODELS))
    up.serve("debian", *REPLICAS)
    until(lambda: all(up.states(name) == UP for name in up.places))
    assert statuses.count(200) >= 11, statuses
    assert refused.status == 0


def test_a_configuration_that_haproxy_refuses_changes_nothing(up: Fleet) -> None:
    place = up.places["debian"]
    place.sh("cp -p /etc/fleet/gateway/haproxy.cfg /tmp/; echo nonsense >>/etc/fleet/gateway/haproxy.cfg")
    try:
        assert "unknown keyword 'nonsense'" in place.sh(
            "systemctl reload fleet-gateway; journalctl -u fleet-gateway -n 20 -o cat"
        )
        assert up.ask("debian").status == 200
    finally:
        place.sh("cp -p /tmp/haproxy.cfg /etc/fleet/gateway/")


def test_a_reload_right_after_another_takes_effect(up: Fleet) -> None:
    """HAProxy 2.6 lost one of four, when the first was taken for done as soon as the new process served."""
    for place in up.places.values():
        place.sh("for reload in 1 2 3 4 5 6 7 8; do systemctl reload fleet-proxy fleet-gateway || exit 1; done")


def test_a_stop_ends_what_is_in_flight(up: Fleet, until: Until) -> None:
    with ThreadPoolExecutor() as pool:
        stream = pool.submit(up.stream, "debian", tokens=20, pause=0.2)
        time.sleep(1)
        up.places["debian"].sh("systemctl stop fleet-gateway")
        assert len(stream.result()) == 20
    up.places["debian"].sh("systemctl start fleet-gateway")
    until(lambda: up.states("debian") == UP)


@pytest.mark.exhaustive
def test_a_run_reloads_a_proxy_that_has_not_read_its_files_since_an_interrupted_one(up: Fleet) -> None:
    up.places["ubuntu"].sh("touch /etc/fleet/gateway/keys.map")
    run = up.run("ubuntu")
    assert run.changed == [
        "Name the proxies that have not read their files since an interrupted run",
        "Reload the proxies",
    ]
    assert up.run("ubuntu").changed == []


def test_a_removed_key_is_refused_after_a_reload_that_restarts_nothing(up: Fleet) -> None:
    def ids() -> str:
        return up.places["ubuntu"].sh(
            f"systemctl show --value --property=MainPID,NRestarts {' '.join([*UNITS, *REPLICAS])}"
        )

    before, idle = ids(), client(up, "ubuntu")
    assert send(idle, KEYS["removed"]) == 200
    clients = {name: limits for name, limits in up.variables("ubuntu")["gateway_clients"].items() if name != "removed"}
    run = up.run("ubuntu", gateway_clients=clients)
    assert run.changed == ["Write the configurations", "Reload the proxies"]
    assert send(idle, KEYS["removed"]) == 401, "an old process answers the next request of an idle connection"
    assert up.ask("ubuntu", key=KEYS["removed"]).status == 401
    assert up.ask("ubuntu").status == 200
    assert ids() == before


def test_no_log_has_a_key(up: Fleet) -> None:
    for place in up.places.values():
        text = place.sh("journalctl --output=cat --unit=fleet-proxy --unit=fleet-gateway")
        assert all(key not in text for key in [*KEYS.values(), KEY])
        assert all(digest["sha256"] not in text for digest in up.variables("ubuntu")["gateway_clients"].values())
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert {line["key"] for line in lines if line["at"] == "gateway"} <= {*KEYS, "", "-"}
        assert {line["gateway"] for line in lines if line["at"] == "node"} >= {*up.places}


def test_a_port_of_somebody_else_stops_the_run_before_any_change(up: Fleet) -> None:
    run = up.run("ubuntu", gateway_port=22)
    assert run.changed == [] and run.message.startswith(
        "port 22 is in use by a process that is not a proxy of this fleet\nwanted: "
    )


def test_a_machine_that_is_no_gateway_any_more_has_nothing_of_it(up: Fleet) -> None:
    run = up.run("debian", gateway_faces=["node"])
    assert "Stop the proxy: fleet-gateway" in run.changed, run.message
    place = up.places["debian"]
    assert place.sh("ls -d /etc/fleet/gateway /etc/systemd/system/fleet-gateway.service 2>/dev/null || true") == ""
    assert place.sh("systemctl is-active fleet-proxy fleet-gateway || true").split() == ["active", "inactive"]


def test_the_proxies_of_a_machine_go(up: Fleet) -> None:
    """The other tests of this lab find the nodes as they were."""
    for name, place in up.places.items():
        assert up.run(name, gateway_faces=[]).rc == 0
        place.sh(f"systemctl stop {' '.join(REPLICAS)}")
        assert place.sh("ls -d /etc/fleet/* /etc/systemd/system/fleet-*.service 2>/dev/null || true") == ""


def client(fleet: Fleet, name: str) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(fleet.address(name), context=trust(fleet.authority), timeout=60)


def send(connection: http.client.HTTPSConnection, key: str) -> int:
    """Return the status of a request over a connection that stays open."""
    connection.request("GET", MODELS, headers={"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    response.read()
    return response.status
