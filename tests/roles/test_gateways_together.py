"""Claims about several gateways: limits that hold over both, counters from nobody else, a virtual address that moves.

Two nodes with both proxies each, HAProxy 2.8 and 2.6, before stand-ins for replicas; at the end nothing of it is left.
"""

import ipaddress
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import gateway_fleet, gateway_pki
from tests.support.gateway_fleet import KEYS, REPLICAS, Answer, Fleet, exchange, request, trust
from tests.support.role_node import Place

CHAT, MODELS = "/v1/chat/completions", request("GET", "/v1/models", KEYS["plenty"])
UP = {"ubuntu": "UP", "debian": "UP"}
Until = Callable[..., None]


@pytest.fixture(scope="module")
def up(ubuntu: Place, debian: Place, until: Until) -> Iterator[Fleet]:
    """Both nodes serve, and both gateways know it."""
    fleet = Fleet({"ubuntu": ubuntu, "debian": debian}, gateway_pki.authority())
    with ThreadPoolExecutor() as pool:
        for name, run in zip(fleet.places, pool.map(fleet.run, fleet.places), strict=True):
            assert run.rc == 0, run.message
            fleet.serve(name, *REPLICAS)
    until(lambda: all(fleet.states(name) == UP for name in fleet.places))
    yield fleet
    for name, place in fleet.places.items():
        assert fleet.run(name, gateway_faces=[]).rc == 0
        place.sh(f"systemctl stop {' '.join(REPLICAS)}")


def test_the_limits_of_a_minute_hold_over_both_gateways_and_a_killed_one_gets_its_counters_back(
    up: Fleet, until: Until
) -> None:
    def statuses(*names: str) -> list[int]:
        return [up.ask(name, key=KEYS["ten"]).status for name in names]

    assert statuses("ubuntu", "debian", "ubuntu", "debian", "ubuntu", "ubuntu") == [200] * 6
    up.places["ubuntu"].sh("systemctl kill --kill-who=all --signal=KILL fleet-gateway")
    assert statuses(*["debian"] * 5) == [200] * 4 + [429], "what the other gateway served still counts"
    up.places["ubuntu"].sh("timeout 60 sh -c 'until systemctl is-active -q fleet-gateway; do sleep 0.2; done'")
    until(lambda: up.states("ubuntu") == UP)
    until(lambda: "key=ten " in up.admin("ubuntu", "show table limits-ubuntu", "fleet-gateway"))
    assert statuses("ubuntu", "debian") == [429] * 2


def test_more_requests_at_once_than_the_limit_are_refused_at_the_other_gateway_too(up: Fleet, until: Until) -> None:
    def ask(name: str, pause: float) -> Answer:
        return up.ask(name, "POST", CHAT, KEYS["two-at-once-anywhere"], body={"pause": pause})

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(ask, name, 8) for name in up.places]
        until(lambda: sum(report.count("gpt0=1") for report in reports(up)) == 4)
        time.sleep(6)  # longer than a report holds
        assert [ask(name, 0).status for name in up.places] == [429] * 2
        assert [run.result().status for run in running] == [200] * 2
    until(lambda: [ask(name, 0).status for name in up.places] == [200] * 2)


def reports(fleet: Fleet) -> list[str]:
    """Return what each gateway knows of the requests that run at each."""
    return [
        fleet.admin(name, f"show table running-{of} key two-at-once-anywhere", "fleet-gateway")
        for name in fleet.places
        for of in fleet.places
    ]


def test_a_gateway_takes_counters_from_the_gateways_of_the_stack_alone(up: Fleet) -> None:
    """Also a machine that the stack's authority once knew as a gateway gets no connection."""
    wrong = {
        "no certificate": "",
        "of a node proxy": up.node_pems["debian"],
        "of a former gateway": up.authority.sign("a-third-machine", gateway_pki.CLIENT),
        "of another authority": gateway_pki.authority().sign("debian", gateway_pki.CLIENT),
    }
    hello = b"HAProxyS 2.1\nubuntu\ndebian 1 1\n"
    answers = {name: first_line(up, own, hello) for name, own in wrong.items()}
    assert answers == dict.fromkeys(wrong, b"")
    assert first_line(up, up.client_pems["debian"], hello) == b"200\n"


def first_line(fleet: Fleet, own: str, data: bytes) -> bytes:
    """Return the first bytes that the gateway of ubuntu answers on its port for other gateways."""
    try:
        with (
            socket.create_connection((fleet.address("ubuntu"), gateway_fleet.PEERS), 10) as connection,
            trust(fleet.authority, own).wrap_socket(connection, server_hostname="ubuntu") as secure,
        ):
            secure.sendall(data)
            return secure.recv(100)
    except OSError:
        return b""


@pytest.mark.exhaustive  # tests/unit/test_program_gateway.py has the names that each proxy accepts
def test_a_stolen_key_is_refused_after_a_reissue_and_the_machine_itself_serves_on(up: Fleet, until: Until) -> None:
    """Debian gets new certificates first, which ubuntu accepts before and after it hears of them."""
    stolen, own, again = up.client_pems["debian"], "debian.r1", {**up.machine("debian"), "certificate": "debian.r1"}
    pems = {
        "GATEWAY_NODE_PEM": up.authority.sign(own, gateway_pki.SERVER, own, "debian", up.address("debian")),
        "GATEWAY_PEER_PEM": up.authority.sign(own, gateway_pki.SERVER, own, "debian", up.address("debian")),
        "GATEWAY_CLIENT_PEM": up.authority.sign(own, gateway_pki.CLIENT),
    }
    machines = [up.machine("ubuntu"), again]
    accepted = ["ubuntu", "ubuntu.r1", own, "debian.r2"]
    lists: dict[str, Any] = {"gateway_nodes": machines, "gateway_peers": machines, "gateway_names": accepted}
    assert up.run("ubuntu", gateway_names=["ubuntu", "ubuntu.r1", "debian", own]).rc == 0
    assert node_status(up, stolen) == 200
    assert up.run("debian", environment=pems, **lists).rc == 0
    until(lambda: up.states("ubuntu") == UP)
    assert up.run("ubuntu", **lists).rc == 0
    until(lambda: all(up.states(name) == UP for name in up.places))
    assert (node_status(up, stolen), node_status(up, pems["GATEWAY_CLIENT_PEM"])) == (0, 200)
    assert up.run("debian", **lists).rc == 0, "somebody answers there with the old keys"
    until(lambda: up.states("ubuntu") == {"ubuntu": "UP", "debian": "DOWN"})
    for name in up.places:
        assert up.run(name).rc == 0
    until(lambda: all(up.states(name) == UP for name in up.places))


def node_status(fleet: Fleet, own: str) -> int:
    """Return what the node proxy of ubuntu answers to a gateway with this certificate; 0 for no connection."""
    return exchange(fleet.address("ubuntu"), gateway_fleet.NODE, trust(fleet.authority, own), MODELS).status


@pytest.mark.exhaustive  # tests/unit/test_roles_gateway.py has the configuration
def test_a_virtual_address_moves_to_the_other_gateway_and_stays_there(up: Fleet, until: Until) -> None:
    virtual = free_address(up)
    check = up.run("ubuntu", check=True, gateway_virtual_address=virtual)
    assert (check.rc, holders(up, virtual)) == (0, []), check.message
    for name in up.places:
        run = up.run(name, gateway_virtual_address=virtual)
        assert run.rc == 0, run.message
    assert up.run("ubuntu", gateway_virtual_address=virtual).changed == []
    until(lambda: len(holders(up, virtual)) == 1)
    (first,) = holders(up, virtual)
    (second,) = {*up.places} - {first}
    up.places[first].sh("systemctl kill --kill-who=all --signal=STOP fleet-gateway")
    try:
        until(lambda: holders(up, virtual) == [second])
        assert exchange(virtual.split("/")[0], gateway_fleet.CLIENTS, trust(up.authority), MODELS).status == 200
    finally:
        up.places[first].sh("systemctl kill --kill-who=all --signal=CONT fleet-gateway")
    until(lambda: "Entering BACKUP" in up.places[first].sh("journalctl -u fleet-address -n 20 -o cat"))
    assert holders(up, virtual) == [second]
    for name, place in up.places.items():
        assert up.run(name).rc == 0
        assert place.sh("systemctl is-active fleet-address || true").strip() == "inactive"
        assert (
            place.sh(
                "ls /etc/systemd/system/fleet-address.service /etc/fleet/gateway/keepalived.conf 2>/dev/null || true"
            )
            == ""
        )
    assert holders(up, virtual) == []


def free_address(fleet: Fleet) -> str:
    """Return an address in the network of the nodes, with the length of its prefix."""
    links = json.loads(fleet.places["ubuntu"].sh("ip -json address"))
    own = [f"{item['local']}/{item['prefixlen']}" for link in links for item in link["addr_info"]]
    (interface,) = [text for text in own if text.startswith(f"{fleet.address('ubuntu')}/")]
    network = ipaddress.ip_interface(interface).network
    return f"{network[-2]}/{network.prefixlen}"


def holders(fleet: Fleet, virtual: str) -> list[str]:
    """Return the nodes that hold the virtual address."""
    return [name for name, place in fleet.places.items() if f" {virtual} " in f"{place.sh('ip -brief address')} "]
