"""Who reaches whom in a stack with a gateway: the address of each proxy, and the words about ports that no source opens."""

from typing import Any

import pytest

from fleet import errors
from fleet.program import gateway, openings
from fleet.resources import Inside, Machine
from fleet.sources.request import Opening
from fleet.stack import settings
from tests.support.pulumi_mocks import FILE, PORTS
from tests.support.source_table import CLIENTS, SOURCES


def machine(network: str = "", *, only: bool = False, **place: str) -> Machine:
    inside = Inside(network, "10.0.0.7", only) if network else None
    return Machine({"address": "192.0.2.7"}, place=place, inside=inside)


EAST, WEST, TRANSLATED = machine("east"), machine("west"), machine("azure", only=True)
ELSEWHERE, RACK = machine(), machine(internal_address="10.9.9.9")
# claim → the node, the gateways, where the node listens, where each of the gateways reaches it
PROXIES: dict[str, tuple[Machine, list[Machine], str, list[str]]] = {
    "in one private network": (EAST, [EAST, EAST], "10.0.0.7", ["10.0.0.7"] * 2),
    "in two regions": (EAST, [EAST, WEST], "192.0.2.7", ["192.0.2.7"] * 2),
    "behind a translated address, from the same network": (TRANSLATED, [TRANSLATED], "10.0.0.7", ["10.0.0.7"]),
    "behind a translated address": (TRANSLATED, [TRANSLATED, EAST], "10.0.0.7", ["10.0.0.7", "192.0.2.7"]),
    "without a private network": (ELSEWHERE, [EAST, TRANSLATED], "192.0.2.7", ["192.0.2.7"] * 2),
    "with an address in the stack file": (RACK, [EAST, RACK], "10.9.9.9", ["10.9.9.9"] * 2),
}


@pytest.mark.parametrize("claim", PROXIES)
def test_a_proxy_listens_where_every_gateway_reaches_it(claim: str) -> None:
    node, gateways, listens, reached = PROXIES[claim]
    assert gateway.listens(node, gateways) == listens
    assert [gateway.reaches(each, node, gateways) for each in gateways] == reached


SSH = SOURCES["ssh"].nodes(**{"prod-1": {}, "prod-2": {}, "door-1": {"gpus": 0}})
DROPLETS = {**SOURCES["digitalocean"].nodes(**{"burst-1": {}, "burst-2": {}}), "gateways_from": ["192.0.2.11/32"]}


def stack(sources: Any, **keys: Any) -> settings.Settings:
    return settings.read({"nodes": sources, "gateway": {"name": "glm.example.com", **keys}}, FILE)


def by_hand(sources: Any, *gateways: str, **keys: Any) -> list[str]:
    read = stack(sources, nodes=[*gateways], **keys)
    return openings.by_hand(read, dict.fromkeys(read.present, PORTS))


def test_the_ports_of_machines_without_a_firewall_of_the_source_are_a_line_of_the_preview() -> None:
    assert by_hand(SSH, "door-1", "prod-1") == [
        "open in firewalls of yours (docs/ports.md): 443 of prod-1, door-1 for the clients; 8443 of prod-1, prod-2 for door-1, prod-1; "
        "8444 of prod-1, door-1 for door-1, prod-1"
    ]
    assert by_hand(SSH, "prod-1", clients_from=CLIENTS) == [
        "open in firewalls of yours (docs/ports.md): 443 of prod-1 for 198.51.100.0/24, 2001:db8::/32; 8443 of prod-2 for prod-1"
    ]


def test_many_nodes_are_a_number_in_that_line() -> None:
    many = SOURCES["ssh"].nodes(**{f"prod-{number}": {} for number in range(1, 7)})
    assert by_hand(many, "prod-1", "prod-2")[0].endswith(
        ": 443 of prod-1, prod-2 for the clients; 8443 of 6 nodes for prod-1, prod-2; 8444 of prod-1, prod-2 for prod-1, prod-2"
    )


def test_what_a_cloud_s_firewall_opens_is_not_in_that_line() -> None:
    assert by_hand([SSH, DROPLETS], "burst-1", clients_from=CLIENTS) == [
        "open in firewalls of yours (docs/ports.md): 8443 of prod-1, prod-2 for burst-1"
    ]
    assert by_hand(DROPLETS, "burst-1", clients_from=CLIENTS) == []


def test_a_machine_with_a_port_of_its_own_has_an_opening_of_its_own() -> None:
    read = stack(DROPLETS, nodes=["burst-1", "burst-2"], clients_from=CLIENTS)
    variables = {"burst-1": PORTS, "burst-2": {**PORTS, "gateway_port": 8443}}
    assert openings.of_pool(read, variables, read.nodes[0]) == [
        Opening("clients-443", 443, ["burst-1"], CLIENTS[:1]),
        Opening("clients-8443", 8443, ["burst-2"], CLIENTS[:1]),
        Opening("peers-8444", 8444, ["burst-1", "burst-2"], [], inside=True),
        Opening("proxies-8443", 8443, sources=[], inside=True),
    ]


def test_an_acme_server_reaches_every_gateway_from_everywhere() -> None:
    acme = {"certificate": "acme", "acme": {"terms_agreed": True}}
    read = stack(DROPLETS, nodes=["burst-1"], clients_from=CLIENTS, **acme)
    opened = openings.of_pool(read, dict.fromkeys(read.present, PORTS), read.nodes[0])
    assert Opening("challenges-80", 80, ["burst-1"], ["0.0.0.0/0"]) in opened
    assert "80 of prod-1 for everybody" in by_hand(SSH, "prod-1", **acme)[0]
    assert "everybody" not in by_hand(SSH, "prod-1")[0]


def test_gateways_of_two_sources_reach_each_other_from_the_named_addresses() -> None:
    read = stack([SSH, DROPLETS], nodes=["prod-1", "burst-1"], clients_from=CLIENTS)
    opened = openings.of_pool(read, dict.fromkeys(read.present, PORTS), read.nodes[1])
    assert Opening("peers-8444", 8444, ["burst-1"], ["192.0.2.11/32"], inside=False) in opened


def test_a_gateway_that_serves_nothing_needs_the_addresses_of_those_elsewhere() -> None:
    door = SOURCES["digitalocean"].nodes(**{"door-2": {"gpus": 0}})
    with pytest.raises(errors.SettingsError) as raised:
        stack([SSH, door], nodes=["prod-1", "door-2"], clients_from=CLIENTS)
    assert (raised.value.key, raised.value.seen) == ("nodes[1].gateways_from", "this key is missing")


def test_a_virtual_address_needs_vrrp_between_the_gateways() -> None:
    (line,) = by_hand(SSH, "door-1", "prod-1", address="192.0.2.99/24")
    assert line.endswith("; IP protocol 112 of prod-1, door-1 for door-1, prod-1")


def sharing_stack(*names: str) -> list[str]:
    """Return the lines by hand of a stack whose machines with these names share their weights."""
    read = stack(SSH, nodes=["door-1"])
    own = {name: {**PORTS, "weights_from_neighbours": name in names} for name in read.present}
    return openings.by_hand(read, own)


def test_machines_that_share_their_weights_reach_each_other() -> None:
    (line,) = sharing_stack("prod-1", "prod-2")
    assert line.endswith("; 8445 of prod-1, prod-2 for prod-1, prod-2")


def test_one_machine_alone_shares_nothing() -> None:
    (line,) = sharing_stack("prod-1")
    assert "8445" not in line


def test_a_clouds_firewall_opens_the_port_of_the_weights_between_its_machines() -> None:
    read = stack(DROPLETS, nodes=["burst-1"], clients_from=CLIENTS)
    own = {name: {**PORTS, "weights_from_neighbours": True} for name in read.present}
    (pool,) = read.nodes
    assert Opening("weights-8445", 8445, ["burst-1", "burst-2"], inside=True) in openings.of_pool(read, own, pool)
