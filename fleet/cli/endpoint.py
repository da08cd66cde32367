"""The one endpoint in the report of `fleet show`: where it is, who may use it, until when its certificates hold, and what a client pastes.

Pure but for `resolves`, which asks this machine's resolver. show.py calls it with what stack_outputs has read.
"""

import re
import shlex
import socket
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.cli import table

HTTPS = 443
ADDRESS = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:-]*")  # what a line to paste may have of a machine's address
RESOLVER = 3.0  # seconds that the resolver has
HEAD = ("certificate", "ends", "machines")
CERTIFICATES = {
    "server": "for clients",
    "acme": "for clients, by ACME",
    "own": "for clients, not by ACME yet",
    "client": "of the gateways",
    "peer": "between gateways",
    "node": "of the node proxies",
}
CA, BODY, KEY = "ca.pem", "request.json", "key"
SNIPPET = """\
python3 - <<'END'
import json, openai
body = json.load(open("request.json"))
answer = openai.OpenAI().chat.completions.create(model=body["model"], messages=body["messages"], extra_body=body)
print(answer.choices[0].message.content)
END"""


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of a stack that is up.

    `gateways` have by machine its address, `ends` by machine and certificate its last day, `authority` the last day of the stack's own
    authority. `own_authority`: clients need the authority's certificate. `without` has by machine why an ACME server gave it none.
    """

    url: str
    gateways: Mapping[str, str]
    clients: Sequence[str]
    ends: Mapping[str, Mapping[str, str]]
    authority: str
    own_authority: bool
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The name in the URL."""
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL."""
        return urllib.parse.urlsplit(self.url).port or HTTPS


def of(outputs: Mapping[str, Any]) -> Endpoint | None:
    """Return the endpoint of a stack's outputs (stack_outputs.outputs); None for a stack without a gateway."""
    proxies = outputs.get("gateways") or {}
    faces = {name: (proxy.get("vars") or {}).get("gateway_faces") or () for name, proxy in proxies.items()}
    entries = {name: proxies[name] for name in sorted(proxies, key=table.natural_order) if "clients" in faces[name]}
    if not outputs.get("endpoint") or not entries:
        return None
    return Endpoint(
        url=str(outputs["endpoint"]),
        gateways={name: _address(proxy) for name, proxy in entries.items()},
        clients=list(
            dict.fromkeys(name for proxy in entries.values() for name in proxy["vars"].get("gateway_clients") or ())
        ),
        ends={name: _ends(proxy) for name, proxy in proxies.items()},
        authority=str(outputs.get("authority_ends") or ""),
        own_authority="authority" in outputs,
        without={name: str(acme["seen"]) for name in entries if (acme := _acme(proxies[name])) and not acme["right"]},
    )


def _acme(proxy: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the last run or refresh saw of a gateway's certificate by ACME; {} for another one."""
    return proxy.get("acme") or {}


def _ends(proxy: Mapping[str, Any]) -> dict[str, str]:
    """Return the last day of each certificate that a machine uses."""
    ends, acme = dict(proxy.get("ends") or {}), _acme(proxy)
    if acme:
        own = ends.pop("server", "")
        ends |= {"acme": str(acme["ends"])} if acme["by"] == "acme" else {"own": own}
    return ends


def _address(proxy: Mapping[str, Any]) -> str:
    """Return the address at which this machine reaches a gateway; "" for none, or an odd one."""
    address = str((proxy.get("node") or {}).get("address") or "")
    return address if ADDRESS.fullmatch(address) else ""


def resolves(name: str, seconds: float = RESOLVER) -> bool:
    """Return whether this machine's resolver has the name, within some seconds."""
    addresses: list[Any] = []

    def ask() -> None:
        try:
            addresses.extend(socket.getaddrinfo(name, None))
        except OSError:
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(addresses)


def report(endpoint: Endpoint, stack: str) -> str:
    """Return where the endpoint is, its clients, and a table of the certificates with their last days."""
    gateways = ", ".join(f"{name} {address}".strip() for name, address in endpoint.gateways.items())
    clients = ", ".join(endpoint.clients) or f"none: `fleet key add -s {shlex.quote(stack)} NAME > {KEY}`, then up"
    lines = table.columns([("endpoint", endpoint.url), ("gateways", gateways), ("clients", clients)])
    missing = "".join(f"\n{name}: no certificate by ACME: {seen}" for name, seen in endpoint.without.items())
    return f"{lines}\n\n{table.columns([HEAD, *_certificates(endpoint)])}{missing}"


def _certificates(endpoint: Endpoint) -> list[tuple[str, str, str]]:
    machines: dict[tuple[str, str], list[str]] = {}
    for name in sorted(endpoint.ends, key=table.natural_order):
        for certificate, day in endpoint.ends[name].items():
            machines.setdefault((certificate, day), []).append(name)
    known = sorted(machines, key=lambda row: ([*CERTIFICATES].index(row[0]) if row[0] in CERTIFICATES else 9, row[1]))
    rows = [(CERTIFICATES.get(name, name), day, ", ".join(machines[name, day])) for name, day in known]
    return [*rows, *([("of the authority", endpoint.authority, "-")] if endpoint.authority else [])]


def paste(endpoint: Endpoint, stack: str, model: str, key: str, resolved: bool, case: str = "bottle-grounding") -> str:
    """Return what a client pastes: a request by curl, and one by the OpenAI library; before them how the files for both are made.

    `key` is the file with a client's key, `resolved` whether the name in the URL has an address.
    """
    name, files = shlex.quote(stack), [f"fleet request {shlex.quote(case)} --model {shlex.quote(model)} > {BODY}"]
    trust, environment = "", ""
    if endpoint.own_authority:
        files.insert(0, f"pulumi stack output authority -s {name} > {CA}")
        trust, environment = f" --cacert {CA}", f"SSL_CERT_FILE={CA} "
    hint, place = "", ""
    if not resolved:
        addresses = list(filter(None, endpoint.gateways.values())) or ["ADDRESS"]
        several = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        place = f" --resolve {shlex.quote(f'{endpoint.host}:{endpoint.port}:{several}')}"
        hint = f"# no resolver has the name: add `{addresses[0]} {endpoint.host}` to /etc/hosts\n"
    secret = f"$(cat {shlex.quote(key)})"
    return "\n".join(
        [
            f"# what a client needs besides its own key, which is in the file {key} here",
            'eval "$(make env)"; ' + "; ".join(files),  # a new shell has neither `fleet` nor `pulumi`
            "",
            f"curl -sS{trust}{place} {shlex.quote(endpoint.url)}/chat/completions"
            # a file that is not on disk: every user of this machine could read the key among curl's arguments
            f" -H @<(echo \"Authorization: Bearer {secret}\") -H 'Content-Type: application/json' -d @{BODY}",
            "",
            f'{hint}{environment}OPENAI_BASE_URL={shlex.quote(endpoint.url)} OPENAI_API_KEY="{secret}" {SNIPPET}',
        ]
    )
