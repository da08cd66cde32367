"""The one endpoint as inputs of the resource Gateway, and as an output: which proxies a machine has, whom they reach, which names they have.

Pure: settings and machines in. Called by `fleet.program`.
"""

from collections.abc import Mapping
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
    reached = [{"name": node, "address": machines[node].internal_address} for node in stack.serving]
    clients = {client: form.model_dump() for client, form in stack.clients.items()}
    entries = stack.gateway.nodes if stack.gateway else []
    return {
        "gateway_faces": own,
        "gateway_address": machines[name].internal_address,
        "gateway_nodes": reached if "clients" in own else [],
        "gateway_clients": clients if "clients" in own else {},
        "gateway_names": [node for node in stack.present if node in entries] if "node" in own else [],
        "gateway_replicas": replicas if "node" in own else [],
        "gateway_acme": acme(stack.gateway, account) if "clients" in own else {},
    }


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
    """Return what the certificate for clients is made of; {} on other machines.

    Its names, or the user's own chain and its key; by ACME also the account's key, and the authority of the server's own certificate.
    """
    form = stack.gateway
    if form is None or "clients" not in faces(stack, name):
        return {}
    own: dict[str, Any] = {"names": form.certificate_names}
    if form.chain:
        own |= {"chain": Path(form.chain).read_text(), "gateway_key": pulumi.Config().require_secret("gateway_key")}
    if account and form.acme:
        own["acme_key"] = pulumi.Output.secret(account.private)
        own |= {"acme_authority": Path(form.acme.ca).read_text()} if form.acme.ca else {}
    return own


def url(form: gateway_form.Gateway, port: int) -> str:
    """Return the URL for clients, as the OpenAI library wants it."""
    return f"https://{form.name}{'' if port == HTTPS else f':{port}'}/v1"
