"""The form of the stack file's keys about the one endpoint: `gateway`, `clients` and `change`, and the mistakes between them.

Pure. Part of the form in `settings`. The stack file never has a client's key, only its SHA-256, which `fleet key add` writes.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import pydantic_core
from pydantic import AfterValidator, Field

from fleet import errors
from fleet.schema import Form, Name

# Not the text of the pattern of an installer's digest: each has its own words in a message.
KEY_SHA256 = r"^[a-f0-9]{64}$"
ACME_SERVER = r"^(letsencrypt|letsencrypt-test|https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?)$"
MAIL = r"^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"
CHAIN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LONGEST_NAME = 63  # in a certificate
HOST = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
LONGEST_ACME = 64
# Descriptions of patterns, and of missing keys, for messages.
FORMS = {
    KEY_SHA256: "the SHA-256 of a client's key: 64 hexadecimal digits; `fleet key add -s STACK NAME` makes both",
    CHAIN: "a file of this project, relative to its root, e.g. certificates/glm.pem",
    ACME_SERVER: "letsencrypt, letsencrypt-test, or the URL of another server's directory, with https://",
    MAIL: "a mail address, e.g. ops@example.com",
}
MISSING = {
    "gateway.nodes": "the machines that clients connect to, at least two for a service that must not stop, e.g. [glm-1, glm-2]",
    "gateway.name": "the DNS name in the clients' URL, e.g. glm.example.com",
    "sha256": FORMS[KEY_SHA256],
}


def is_address(text: str) -> bool:
    """Return whether the text is an IP address. One with a zone, such as fe80::1%eth0, has a meaning on one machine only, and is none here."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def canonical(text: str) -> str:
    """Return an IP address in its shortest form, as a certificate has it; other text as it is."""
    return str(ipaddress.ip_address(text)) if is_address(text) else text


def _network(text: str) -> str:
    """Return the text if it is a network of IPv4 or IPv6."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_range", "ADDRESS/BITS, e.g. 192.0.2.0/24") from None
    return text


def host_name(text: str) -> str:
    """Return the text if it is a DNS name."""
    if not HOST.fullmatch(text) or is_address(text):
        raise pydantic_core.PydanticCustomError("no_host", "a DNS name in lower case, e.g. glm.example.com")
    return text


def _host_or_address(text: str) -> str:
    """Return the text if it is a DNS name, or an IP address in its shortest form."""
    if not HOST.fullmatch(text) and not is_address(text):
        wanted = "a DNS name in lower case or an IP address: a certificate here has no wildcard"
        raise pydantic_core.PydanticCustomError("no_host", wanted)
    return canonical(text)


class Acme(Form):
    """Where a certificate by ACME is from.

    `server` is letsencrypt, letsencrypt-test, or the URL of another server's directory; `ca` is then the PEM file of this project that has the
    authority of that server's own certificate, if it is not public. `contact` is a mail address for the account. `terms_agreed` says that
    you agree to the server's terms of service.
    """

    server: str = Field(default="letsencrypt", pattern=ACME_SERVER)
    contact: Annotated[str, Field(pattern=MAIL)] | None = None
    terms_agreed: bool = False
    ca: Annotated[str, Field(pattern=CHAIN)] | None = None


def _virtual(text: str) -> str:
    """Return the text if it is an address of a host, with the prefix length of its network."""
    with contextlib.suppress(ValueError):
        virtual = ipaddress.ip_interface(text)
        if "/" in text and virtual.ip not in (virtual.network[0], virtual.network[-1]):
            return text
    wanted = "an IP address that is free, and the prefix length of its network, e.g. 192.0.2.10/24"
    raise pydantic_core.PydanticCustomError("no_network", wanted)


class Gateway(Form):
    """The one endpoint. Without this key there is none, and no proxy on any machine.

    `nodes` are the machines that clients connect to, `name` is the DNS name in their URL, `names` are more names and addresses in the
    certificate. `clients_from` are the networks of the clients: a firewall that a cloud source creates admits no others to the gateways.
    Its `certificate` is signed by the stack's own authority, or `files`: the PEM file `chain` of this project, whose key is
    the secret gateway_key; or `acme`: each gateway gets its own from an ACME server. `address` is one that the gateways hold in turns, each
    while it answers. `reissue` has by machine a number: a higher one makes what its proxies had to prove who they are invalid, and issues
    it again.
    """

    nodes: list[Name] = Field(min_length=1)
    name: Annotated[str, AfterValidator(host_name)]
    names: list[Annotated[str, AfterValidator(_host_or_address)]] = []
    clients_from: list[Annotated[str, AfterValidator(_network)]] = []
    certificate: Literal["authority", "files", "acme"] = "authority"
    chain: Annotated[str, Field(pattern=CHAIN)] | None = None
    acme: Acme | None = None
    address: Annotated[str, AfterValidator(_virtual)] | None = None
    reissue: dict[Name, Annotated[int, Field(ge=1, le=999)]] = {}

    @property
    def certificate_names(self) -> list[str]:
        """The names in the certificate, each once; the URL's name is the first."""
        return list(dict.fromkeys([self.name, *self.names]))

    def own_name(self, machine: str, later: int = 0) -> str:
        """Return the name by which a machine's proxies know each other, in their certificates: another one after each reissue."""
        number = self.reissue.get(machine, 0) + later
        return f"{machine}.r{number}" if number > 0 else machine


class Client(Form):
    """One client: the SHA-256 of its key, and its limits. `concurrent` is the number of its requests at the same time."""

    sha256: str = Field(pattern=KEY_SHA256)
    requests_per_minute: int = Field(default=600, ge=1, le=1_000_000)
    megabytes_per_minute: int = Field(default=2000, ge=1, le=4000)  # HAProxy counts bytes in 32 bits
    concurrent: int = Field(default=64, ge=1, le=10_000)


class Change(Form):
    """How a change reaches the machines that serve.

    At most `at_once` of them are out of service at the same time. With `canary` the first one must serve for `hold` seconds, and answer at
    least `requests` requests, before the others begin. A machine gets `drain` seconds to end the requests in flight.
    """

    at_once: int = Field(default=1, ge=1, le=1000)
    canary: bool = True
    hold: int = Field(default=60, ge=0, le=86_400)
    drain: int = Field(default=300, ge=0, le=86_400)
    requests: int = Field(default=0, ge=0, le=1_000_000)


def mistakes(
    gateway: Gateway | None, clients: Mapping[str, Client], names: Sequence[str], present: Sequence[str], file: str
) -> Iterator[errors.SettingsError]:
    """Yield the mistakes between `gateway`, `clients` and the machines: `names` are all, `present` those that are not absent."""
    if gateway is None:
        if clients:
            seen, allowed = (
                "there is no gateway for them",
                "`glm-fleet:gateway`, which says where clients connect to, or no clients",
            )
            yield errors.SettingsError(file=file, key="clients", seen=seen, allowed=allowed)
        return
    for place, name in enumerate(gateway.nodes):
        key = f"gateway.nodes[{place}]"
        if name in gateway.nodes[:place]:
            yield errors.SettingsError(
                file=file, key=key, value=name, seen="is there twice", allowed="each machine once"
            )
        elif name not in names:
            nearest = errors.nearest(name, names)
            seen, allowed = "no machine has this name", ", ".join(names)
            yield errors.SettingsError(file=file, key=key, value=name, seen=seen, allowed=allowed, nearest=nearest)
        elif name not in present:
            allowed = f"a machine that is not absent: {', '.join(present)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="is absent", allowed=allowed)
    for name in gateway.reissue:
        key = f"gateway.reissue.{name}"
        if name not in names:
            nearest, allowed = errors.nearest(name, names), ", ".join(names)
            seen = "no machine has this name"
            yield errors.SettingsError(file=file, key=key, seen=seen, allowed=allowed, nearest=nearest)
        elif len(gateway.own_name(name, 1)) > LONGEST_NAME:
            seen, allowed = "the name of this machine is too long", f"at most {LONGEST_NAME - 5} characters"
            yield errors.SettingsError(file=file, key=key, seen=seen, allowed=allowed)
    if gateway.certificate == "files" and gateway.chain is None:
        yield errors.SettingsError(file=file, key="gateway.chain", seen="this key is missing", allowed=FORMS[CHAIN])
    if gateway.certificate != "files" and gateway.chain is not None:
        allowed = "`certificate: files` with it, or no chain"
        seen = f"the certificate is from the {gateway.certificate}"
        yield errors.SettingsError(file=file, key="gateway.chain", value=gateway.chain, seen=seen, allowed=allowed)
    yield from _acme_mistakes(gateway, file)
    if gateway.address and len(gateway.nodes) == 1:
        seen, allowed = f"{gateway.nodes[0]} is the only gateway", "two gateways that hold it in turns, or no address"
        yield errors.SettingsError(file=file, key="gateway.address", value=gateway.address, seen=seen, allowed=allowed)
    yield from _shared_keys(clients, file)


def _acme_mistakes(gateway: Gateway, file: str) -> Iterator[errors.SettingsError]:
    """Yield settings of ACME without ACME, terms to which nobody has agreed, and names that dehydrated cannot ask for."""
    if gateway.certificate != "acme":
        if gateway.acme is not None:
            seen, allowed = (
                f"the certificate is from the {gateway.certificate}",
                "`certificate: acme` with it, or no acme",
            )
            yield errors.SettingsError(file=file, key="gateway.acme", seen=seen, allowed=allowed)
        return
    if gateway.acme is None or not gateway.acme.terms_agreed:
        seen = "this key is missing" if gateway.acme is None else "is not true"
        allowed = "`true`: you agree to the terms of service of the ACME server, which gives no certificate otherwise"
        yield errors.SettingsError(file=file, key="gateway.acme.terms_agreed", seen=seen, allowed=allowed)
    for place, name in enumerate(gateway.names):
        if is_address(name):
            seen, allowed = "is an address", "DNS names: ACME gives no certificate for an address here"
            yield errors.SettingsError(file=file, key=f"gateway.names[{place}]", value=name, seen=seen, allowed=allowed)
    if len(gateway.name) > LONGEST_ACME:
        allowed = (
            f"at most {LONGEST_ACME}, as it is the common name of a certificate by ACME; longer ones in gateway.names"
        )
        seen = f"has {len(gateway.name)} characters"
        yield errors.SettingsError(file=file, key="gateway.name", value=gateway.name, seen=seen, allowed=allowed)


def _shared_keys(clients: Mapping[str, Client], file: str) -> Iterator[errors.SettingsError]:
    """Yield the clients with the key of another: requests with it could be of either."""
    owners: dict[str, str] = {}
    for name, client in clients.items():
        if (owner := owners.setdefault(client.sha256, name)) != name:
            allowed = f"a key for each client: `fleet key remove` and `fleet key add` make one for {name}"
            key, seen = f"clients.{name}.sha256", f"{owner} has the same key"
            yield errors.SettingsError(file=file, key=key, seen=seen, allowed=allowed)


def warnings(gateway: Gateway | None, file: str) -> Iterator[errors.SettingsError]:
    """Yield a gateway that is alone."""
    if gateway and len(gateway.nodes) == 1:
        seen = f"{gateway.nodes[0]} is the only gateway: without it no client reaches the fleet"
        allowed = "two or more, each with an address of the name"
        yield errors.SettingsError(file=file, key="gateway.nodes", seen=seen, allowed=allowed)
