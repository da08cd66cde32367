"""Which ports a gateway and weights from neighbours need besides SSH, and from where: for the firewalls that sources create, and in words for all others.

Pure: settings and role variables in. Called by `fleet.program` and its machines.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.program import sharing
from fleet.sources.pool import Pool
from fleet.sources.request import Opening
from fleet.sources.ssh.form import Reached
from fleet.stack import gateway_network, settings

# An ACME server asks every gateway, from addresses that it does not publish.
EVERYWHERE = "0.0.0.0/0"
# More names than this are a number of nodes.
NAMES = 4

Variables = Mapping[str, Mapping[str, Any]]  # of the roles, by machine, with their defaults


def of_pool(stack: settings.Settings, variables: Variables, pool: Pool) -> list[Opening]:
    """Return what the firewall of a cloud's pool opens."""
    form = stack.gateway
    if form is None:
        return []
    entries = [name for name in pool.present if name in form.nodes]
    nodes = [name for name in pool.present if name in stack.serving]
    openings = [
        Opening(f"clients-{port}", port, on, gateway_network.ipv4(form.clients_from))
        for port, on in _by_port(variables, entries, "gateway_port").items()
    ]
    if stack.by_acme:
        openings += [
            Opening(f"challenges-{port}", port, on, [EVERYWHERE])
            for port, on in _by_port(variables, entries, "gateway_challenge_port").items()
        ]
    others = any(name not in pool.machines for name in form.nodes)
    sources = getattr(pool, "gateways_from", []) if others else []
    if len(form.nodes) > 1:
        openings += [
            Opening(f"peers-{port}", port, on, sources, inside=len(entries) > 1)
            for port, on in _by_port(variables, entries, "gateway_peers_port").items()
        ]
    openings += [
        Opening(f"proxies-{port}", port, sources=sources, inside=bool(entries))
        for port in _by_port(variables, nodes, "gateway_node_port")
    ]
    shared = [name for name in nodes if set(sharing.group(stack, variables, name)) & {*nodes} - {name}]
    openings += [
        Opening(f"weights-{port}", port, on, inside=True)
        for port, on in _by_port(variables, shared, "weights_port").items()
    ]
    return openings


def by_hand(stack: settings.Settings, variables: Variables) -> list[str]:
    """Return a line for the end of a preview about ports on machines whose firewall, if there is one, is not the source's; else none."""
    form = stack.gateway
    if form is None:
        return []
    own = [name for pool in stack.nodes if isinstance(pool, Reached) for name in pool.present]
    entries = [name for name in own if name in form.nodes]
    clients = ", ".join(form.clients_from) or "the clients"
    parts = [
        f"{port} of {_names(names)} for {clients}"
        for port, names in _by_port(variables, entries, "gateway_port").items()
    ]
    if stack.by_acme:
        parts += [
            f"{port} of {_names(names)} for everybody"
            for port, names in _by_port(variables, entries, "gateway_challenge_port").items()
        ]
    nodes = [name for name in own if name in stack.serving and set(form.nodes) - {name}]
    parts += [
        f"{port} of {_names(names)} for {_names(form.nodes)}"
        for port, names in _by_port(variables, nodes, "gateway_node_port").items()
    ]
    if len(form.nodes) > 1:
        parts += [
            f"{port} of {_names(names)} for {_names(form.nodes)}"
            for port, names in _by_port(variables, entries, "gateway_peers_port").items()
        ]
    groups = {
        tuple(group): [one for one in own if one in group]
        for name in own
        if (group := sharing.group(stack, variables, name))
    }
    parts += [
        f"{port} of {_names(names)} for {_names(group)}"
        for group, members in groups.items()
        for port, names in _by_port(variables, members, "weights_port").items()
    ]
    if form.address:
        parts.append(f"IP protocol 112 of {_names(entries)} for {_names(form.nodes)}")
    return [f"open in firewalls of yours (docs/ports.md): {'; '.join(parts)}"] if parts else []


def _by_port(variables: Variables, names: Sequence[str], port: str) -> dict[int, list[str]]:
    """Return the machines by their value of a port."""
    groups: dict[int, list[str]] = {}
    for name in names:
        groups.setdefault(int(variables[name][port]), []).append(name)
    return groups


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMES else f"{len(names)} nodes"
