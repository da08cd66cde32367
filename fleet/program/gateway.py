"""The one endpoint as inputs of the resource Gateway, and as an output: which proxies a machine has, whom they reach, which names they have.

Pure: settings and machines in. Called by `fleet.program`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi

from fleet.resources import Account, Machine
from fleet.stack import gateway_form, settings

HTTPS = 443


def faces(stack: settings.Settings, name: str) -> list[str]:
    """Return the proxies of a machine: `node`, before its replicas, and `clients`, to which clients connect."""
    entries = stack.gateway.nodes if stack.gateway else []
    return [*(["node"] if name in stack.serving else []), *(["clients"] if name in entries else [])]


def variables(
    stack: settings.Settings,
    machines: Mapping[str, Machine],
    name: str,
    replicas: pulumi.Input[Any],
    account: Account | None,
) -> dict[str, pulumi.Input[Any]]:
    """Return the role variables that only the program sets. A machine gets only what its own proxies need: a change of more would run there."""
    own = faces(stack, name)
    form = stack.gateway
    entries = [node for node in stack.present if form and node in form.nodes]
    gateways = [machines[node] for node in entries]
    own_name = form.own_name if form else str
    reached, peers = (
        [
            {"name": node, "address": reaches(machines[name], machines[node], gateways), "certificate": own_name(node)}
            for node in nodes
        ]
        for nodes in (stack.serving, entries)
    )
    # A gateway whose certificate is reissued has the new one before or after a node hears of it.
    accepted = [own for node in entries if form for own in (form.own_name(node), form.own_name(node, 1))]
    virtual = (form.address if form else None) or ""
    clients = {client: form.model_dump() for client, form in stack.clients.items()}
    return {
        "gateway_faces": own,
        "gateway_name": name if "clients" in own else "",
        "gateway_address": listens(machines[name], gateways),
        "gateway_nodes": reached if "clients" in own else [],
        "gateway_peers": peers if "clients" in own else [],
        "gateway_clients": clients if "clients" in own else {},
        "gateway_virtual_address": virtual if "clients" in own else "",
        "gateway_names": accepted if "node" in own else [],
        "gateway_replicas": replicas if "node" in own else [],
        "gateway_acme": acme(stack.gateway, account) if "clients" in own else {},
    }


def listens(machine: Machine, gateways: Sequence[Machine]) -> pulumi.Input[str]:
    """Return the address on which a machine's node proxy listens: in its private network, if all gateways are there or it has no other."""
    inside = machine.inside
    if inside and (inside.only or all(_together(machine, gateway) for gateway in gateways)):
        return inside.address
    return machine.internal_address


def reaches(gateway: Machine, machine: Machine, gateways: Sequence[Machine]) -> pulumi.Input[str]:
    """Return the address at which one of the gateways reaches a machine's node proxy: where it listens, or what the cloud translates to that."""
    if machine.inside and machine.inside.only and not _together(machine, gateway):
        return machine.internal_address
    return listens(machine, gateways)


def _together(one: Machine, other: Machine) -> bool:
    """Return whether two machines are in one private network."""
    return bool(one.inside and other.inside and one.inside.network == other.inside.network)


def acme(form: gateway_form.Gateway | None, account: Account | None) -> dict[str, pulumi.Input[Any]]:
    """Return what a gateway asks an ACME server for, and how it answers one; {} for another certificate."""
    if form is None or form.acme is None or account is None:
        return {}
    return {
        "server": form.acme.server,
        "names": form.certificate_names,
        "thumbprint": account.thumbprint,
        **({"contact": form.acme.contact} if form.acme.contact else {}),
    }


def names(stack: settings.Settings, name: str, account: Account | None) -> dict[str, Any]:
    """Return what the certificates are made of: of a reissue the machine's own name and that before; of a gateway the names for clients, or
    the user's own chain and its key; by ACME also the account's key, and the authority of the server's own certificate."""
    form = stack.gateway
    if form is None:
        return {}
    reissued = name in form.reissue
    own: dict[str, Any] = {"own_names": [form.own_name(name), form.own_name(name, -1)]} if reissued else {}
    if "clients" not in faces(stack, name):
        return own
    own["names"] = form.certificate_names
    if form.chain:
        own |= {"chain": Path(form.chain).read_text(), "gateway_key": pulumi.Config().require_secret("gateway_key")}
    if account and form.acme:
        own["acme_key"] = pulumi.Output.secret(account.private)
        own |= {"acme_authority": Path(form.acme.ca).read_text()} if form.acme.ca else {}
    return own


def url(form: gateway_form.Gateway, port: int) -> str:
    """Return the URL for clients, as the OpenAI library wants it."""
    return f"https://{form.name}{'' if port == HTTPS else f':{port}'}/v1"
