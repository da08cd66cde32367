"""The one endpoint as inputs of the resource Gateway, and as an output: which proxies a machine has, whom they reach, which names they have.

Pure: settings and machines in. Called by `fleet.program`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi

from fleet.resources import Machine
from fleet.stack import gateway_form, settings

HTTPS = 443


def faces(stack: settings.Settings, name: str) -> list[str]:
    """Return the proxies of a machine: `node`, before its replicas, and `clients`, to which clients connect."""
    entries = stack.gateway.nodes if stack.gateway else []
    return [*(["node"] if name in stack.serving else []), *(["clients"] if name in entries else [])]


def variables(
    stack: settings.Settings, machines: Mapping[str, Machine], name: str, replicas: pulumi.Input[Any]
) -> dict[str, pulumi.Input[Any]]:
    """Return the role variables that only the program sets. A machine gets only what its own proxies need: a change of more would run there."""
    own = faces(stack, name)
    gateways = [machines[node] for node in stack.present if stack.gateway and node in stack.gateway.nodes]
    reached = [{"name": node, "address": reaches(machines[name], machines[node], gateways)} for node in stack.serving]
    clients = {client: form.model_dump() for client, form in stack.clients.items()}
    entries = stack.gateway.nodes if stack.gateway else []
    return {
        "gateway_faces": own,
        "gateway_address": listens(machines[name], gateways),
        "gateway_nodes": reached if "clients" in own else [],
        "gateway_clients": clients if "clients" in own else {},
        "gateway_names": [node for node in stack.present if node in entries] if "node" in own else [],
        "gateway_replicas": replicas if "node" in own else [],
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


def names(stack: settings.Settings, name: str) -> dict[str, Any]:
    """Return what the certificate for clients is made of: its names, or the user's own chain and its key; {} on other machines."""
    form = stack.gateway
    if form is None or "clients" not in faces(stack, name):
        return {}
    own: dict[str, Any] = {"names": form.certificate_names}
    if form.chain:
        own |= {"chain": Path(form.chain).read_text(), "gateway_key": pulumi.Config().require_secret("gateway_key")}
    return own


def url(form: gateway_form.Gateway, port: int) -> str:
    """Return the URL for clients, as the OpenAI library wants it."""
    return f"https://{form.name}{'' if port == HTTPS else f':{port}'}/v1"
