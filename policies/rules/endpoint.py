"""The one endpoint: two gateways in production, certificates that hold, and clients' keys that nobody guesses."""

import contextlib
import datetime
import hashlib
import re
from collections.abc import Iterator, Mapping

from fleet import certificates, findings
from fleet.findings import Finding
from policies.context import Context, value_at
from policies.rule import ResourceRule

LEFT = 14  # days that a stack's own certificate must hold from now on
SHA256 = re.compile(r"[0-9a-f]{64}")


def gateways_in_production(context: Context) -> Iterator[Finding]:
    """Yield a production stack without a gateway, or with one alone."""
    if context.stack.cluster:
        return  # what is before the models is the cluster's own
    names = context.stack.gateways
    if context.stack.production and not names:
        yield Finding("the stack has no gateway", reason="each client needs an SSH tunnel, or a port without TLS")
    elif context.stack.production and len(names) == 1:
        yield Finding(f"{names[0]} is the only gateway", reason="while it restarts, no client reaches the fleet")


def certificate_holds(context: Context) -> Iterator[Finding]:
    """Yield a stack's own certificate that ends soon. The program refuses one that has ended."""
    chain = value_at(context.inputs, "chain")
    with contextlib.suppress(ValueError):
        ends = certificates.ends(chain) if isinstance(chain, str) else datetime.date.max
        if (days := (ends - findings.today()).days) < LEFT:
            yield Finding(f"the gateway's own certificate ends on {ends}, in {max(days, 0)} days")


def clients_keys(context: Context) -> Iterator[Finding]:
    """Yield the clients whose digest is of no key of their own."""
    clients = context.var("gateway_clients")
    known = {_digest(""): "an empty key"}
    if isinstance(key := value_at(context.inputs, "inner_key"), str):
        known[_digest(key)] = "the replicas' own API key"
    for name in clients if isinstance(clients, Mapping) else ():
        digest = value_at(clients, name, "sha256", absent="")
        if digest is None:
            continue
        if not SHA256.fullmatch(str(digest)):
            yield Finding(f"clients.{name}.sha256 is no SHA-256", reason="no key has it, or it is a key in clear")
        elif digest in known:
            yield Finding(f"clients.{name}.sha256 is that of {known[digest]}")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


RULES = (
    ResourceRule(
        name="gateways-in-production",
        holds="A stack named prod, production or dr, or with such a name and a dash, has a gateway on at least two machines.",
        reason="clients then have TLS, a key each, and another machine while one restarts",
        remedy="`glm-fleet:gateway` with a `name` and two `nodes`; or a waiver with its reason and last day",
        source="this project: docs/endpoint.md, what a client sees while a gateway is gone",
        kinds=("Stack",),
        check=gateways_in_production,
    ),
    ResourceRule(
        name="certificate-holds",
        holds=f"A gateway's own certificate (`certificate: files`) holds for {LEFT} days at least.",
        reason="from that day on every client refuses the connection, and nothing here renews it",
        remedy="write the renewed certificate to the file of gateway.chain, and its key to the secret gateway_key; or `certificate: acme`, or `authority`",
        source="this project: fleet/certificates.py renews only what the stack's authority has signed",
        kinds=("Gateway",),
        check=certificate_holds,
    ),
    ResourceRule(
        name="clients-have-own-keys",
        holds="Each client has the SHA-256 of a key of its own, which is neither empty nor the replicas' API key.",
        reason="whoever has that key is this client",
        remedy="`fleet key remove` and `fleet key add`: a key with 256 random bits",
        source="this project: roles/gateway compares the SHA-256 of what a client sends",
        kinds=("Gateway",),
        check=clients_keys,
    ),
)
