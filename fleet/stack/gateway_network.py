"""The mistakes between a gateway and the networks of the machines: an address that no proxy can listen on, a firewall that nothing opens.

Pure. Called by `settings`. Which ports the firewalls open is in fleet.program.openings.
"""

import ipaddress
from collections.abc import Iterator, Sequence

from fleet import errors
from fleet.sources.cloud_form import Cloud
from fleet.sources.pool import Pool
from fleet.sources.ssh.form import Reached
from fleet.stack.gateway_form import Gateway, canonical, is_address

Pools = Sequence[tuple[str, Pool]]  # each with its key in the stack file


def mistakes(
    gateway: Gateway | None, pools: Pools, proxies: Sequence[str], file: str
) -> Iterator[errors.SettingsError]:
    """Yield the mistakes; `proxies` are the machines with a proxy."""
    if gateway is None:
        return
    yield from _without_address(pools, proxies, file)
    yield from _closed_to_clients(gateway, pools, file)
    yield from _closed_to_gateways(gateway, pools, proxies, file)
    yield from _virtual_address_elsewhere(gateway, pools, file)


def ipv4(networks: Sequence[str]) -> list[str]:
    """Return the networks of IPv4: a machine that a cloud source makes has no other address."""
    return [network for network in networks if ipaddress.ip_network(network).version == 4]


def _without_address(pools: Pools, proxies: Sequence[str], file: str) -> Iterator[errors.SettingsError]:
    """Yield the machines with a proxy, which listens on the machine's address for the others, where that is a name."""
    for pool_key, pool in pools:
        if not isinstance(pool, Reached):
            continue
        for name in (name for name in pool.machines if name in proxies):
            internal = pool.place(name).get("internal_address")
            address = internal or pool.machines[name].address
            if not is_address(address):
                key = f"{pool_key}.machines.{name}.{'internal_address' if internal else 'address'}"
                seen = "is a name, and the machine's proxy listens on its address"
                allowed = "`internal_address`, the IP address at which the other machines reach it"
                yield errors.SettingsError(file=file, key=key, value=address, seen=seen, allowed=allowed)


def _closed_to_clients(gateway: Gateway, pools: Pools, file: str) -> Iterator[errors.SettingsError]:
    """Yield `clients_from` where a cloud's firewall needs it. No default: who may connect is the operator's decision."""
    names = [name for _, pool in pools if isinstance(pool, Cloud) for name in pool.present if name in gateway.nodes]
    if names and not ipv4(gateway.clients_from):
        seen = "has no network of IPv4" if gateway.clients_from else "this key is missing"
        allowed = f"the networks to which the cloud's firewall opens {', '.join(names)}, e.g. [192.0.2.0/24]; [0.0.0.0/0] is the whole internet"
        yield errors.SettingsError(file=file, key="gateway.clients_from", seen=seen, allowed=allowed)


def _closed_to_gateways(
    gateway: Gateway, pools: Pools, proxies: Sequence[str], file: str
) -> Iterator[errors.SettingsError]:
    """Yield `gateways_from` where a cloud's firewall needs it: it knows the addresses of its own machines only."""
    for key, pool in pools:
        nodes = [name for name in pool.present if name in proxies]
        others = [name for name in gateway.nodes if name not in pool.machines]
        if isinstance(pool, Cloud) and nodes and others and not pool.gateways_from:
            allowed = f"the addresses from which {', '.join(others)} reach{'' if len(others) > 1 else 'es'} {', '.join(nodes)}, e.g. [192.0.2.11/32]"
            yield errors.SettingsError(
                file=file, key=f"{key}.gateways_from", seen="this key is missing", allowed=allowed
            )


def _virtual_address_elsewhere(gateway: Gateway, pools: Pools, file: str) -> Iterator[errors.SettingsError]:
    """Yield a virtual address that a machine has itself, and gateways in a cloud, where no machine can take an address over."""
    if not gateway.address:
        return
    virtual = canonical(gateway.address.partition("/")[0])
    machines = {name: pool for _, pool in pools for name in pool.machines}
    for name, pool in machines.items():
        seen = ""
        if isinstance(pool, Cloud) and name in gateway.nodes:
            seen = f"{name} is in {pool.source}: a cloud delivers an address to the machine that it has assigned it to"
        if isinstance(pool, Reached):
            own = (pool.with_defaults(name)["address"], pool.place(name).get("internal_address") or "")
            seen = f"{name} has this address itself" if virtual in map(canonical, own) else ""
        if seen:
            allowed = "a free address in a network of all gateways, which are machines of your own; or none"
            yield errors.SettingsError(
                file=file, key="gateway.address", value=gateway.address, seen=seen, allowed=allowed
            )
