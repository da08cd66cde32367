"""Two lab nodes with proxies before stand-in replicas: their variables, certificates and clients' keys, and requests to them.

Needs nodes that are up (tests/roles/conftest.py). Called by tests/roles/test_gateway*.py.
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import http.client
import json
import pathlib
import socket
import ssl
import tempfile
import time
from typing import Any

from tests.support import gateway_pki, playbook
from tests.support.role_node import KEY, Place

STAND_IN = pathlib.Path(__file__).with_name("standin_replica.py")
REPLICAS = ("stand-0", "stand-1")
SOCKETS = {name: f"/run/fleet/{name}/sock" for name in REPLICAS}
NAME = "glm.example"
CLIENTS, NODE, PEERS = 443, 8443, 8444
# Limits a minute: requests, megabytes; and at the same time. Each test has a client of its own.
LIMITS = {
    "plenty": (100_000, 4000, 1000),
    "five": (5, 4000, 1000),
    "one-megabyte": (100_000, 1, 1000),
    "two-at-once": (100_000, 4000, 2),
    "ten": (10, 4000, 1000),
    "two-at-once-anywhere": (100_000, 4000, 2),
    "removed": (100_000, 4000, 1000),
}
KEYS = {name: f"sk-of-{name}-{'0' * 32}" for name in LIMITS}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: a status with headers (names in lower case) and body; or status 0 and the reason why nothing did."""

    status: int
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    reason: str = ""

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The nodes by name, the authority of their certificates, and the variables that tests have set."""

    places: dict[str, Place]
    authority: gateway_pki.Authority

    def address(self, name: str) -> str:
        return str(self.places[name].node.address)

    def machine(self, name: str) -> dict[str, str]:
        """Return a node as the gateways know it."""
        return {"name": name, "address": self.address(name), "certificate": name}

    def variables(self, name: str) -> dict[str, Any]:
        limits = ("requests_per_minute", "megabytes_per_minute", "concurrent")
        clients = {
            client: {
                "sha256": hashlib.sha256(KEYS[client].encode()).hexdigest(),
                **dict(zip(limits, values, strict=True)),
            }
            for client, values in LIMITS.items()
        }
        return {
            "gateway_faces": ["node", "clients"],
            "gateway_name": name,
            "gateway_address": self.address(name),
            "gateway_nodes": [self.machine(other) for other in self.places],
            "gateway_peers": [self.machine(other) for other in self.places],
            "gateway_names": list(self.places),
            "gateway_replicas": [{"name": replica, "model": "m", "socket": path} for replica, path in SOCKETS.items()],
            "gateway_clients": clients,
        }

    @functools.cached_property
    def server_pem(self) -> str:
        addresses = [self.address(name) for name in self.places]
        return self.authority.sign(NAME, gateway_pki.SERVER, NAME, *addresses)

    @functools.cached_property
    def node_pems(self) -> dict[str, str]:
        return {name: self.authority.sign(name, gateway_pki.SERVER, name, self.address(name)) for name in self.places}

    @functools.cached_property
    def client_pems(self) -> dict[str, str]:
        return {name: self.authority.sign(name, gateway_pki.CLIENT) for name in self.places}

    def run(
        self, name: str, check: bool = False, environment: dict[str, str] | None = None, **more: Any
    ) -> playbook.Run:
        """Run playbooks/gateway.yml on one node."""
        own = {
            "VLLM_API_KEY": KEY,
            "GATEWAY_AUTHORITY": self.authority.pem,
            "GATEWAY_NODE_PEM": self.node_pems[name],
            "GATEWAY_CLIENT_PEM": self.client_pems[name],
            "GATEWAY_PEER_PEM": self.node_pems[name],
            "GATEWAY_SERVER_PEM": self.server_pem,
            **(environment or {}),
        }
        return playbook.run(self.places[name].node, "gateway", {**self.variables(name), **more}, own, check)

    def serve(self, name: str, *replicas: str) -> None:
        """Start stand-ins for replicas on a node."""
        place = self.places[name]
        place.sh("cat >/usr/local/lib/standin_replica.py", stdin=STAND_IN.read_text())
        for replica in replicas:
            program = f"python3 /usr/local/lib/standin_replica.py 10001 fleet-proxy {KEY} {SOCKETS[replica]}"
            place.sh(f"systemd-run --quiet --collect --unit={replica} --property=Restart=no {program}")

    def admin(self, name: str, command: str, unit: str = "fleet-proxy") -> str:
        """Return HAProxy's answer to a command of its runtime API."""
        script = (
            "import socket, sys; api = socket.socket(socket.AF_UNIX); api.connect(sys.argv[1]); "
            "api.sendall(sys.stdin.read().encode()); print(api.makefile().read())"
        )
        return self.places[name].sh(f"python3 -c '{script}' /run/{unit}/admin.sock", stdin=f"{command}\n")

    def rows(self, name: str, unit: str, backend: str) -> list[dict[str, str]]:
        """Return the rows of a backend in HAProxy's statistics."""
        table = csv.DictReader(self.admin(name, "show stat", unit).removeprefix("# ").splitlines())
        return [row for row in table if row["pxname"] == backend]

    def states(self, name: str) -> dict[str, str]:
        """Return what the gateway of a node thinks of each node: UP, DOWN, NOLB."""
        rows = self.rows(name, "fleet-gateway", "nodes")
        return {row["svname"]: row["status"].split()[0] for row in rows if row["svname"] in self.places}

    def stream(self, name: str, **body: Any) -> list[tuple[float, dict[str, Any]]]:
        """Return the tokens of a stream through the gateway of a node, each with the time of its arrival."""
        connection = http.client.HTTPSConnection(self.address(name), context=trust(self.authority), timeout=60)
        headers = {"Authorization": f"Bearer {KEYS['plenty']}"}
        connection.request("POST", "/v1/chat/completions", json.dumps({"stream": True, **body}), headers)
        lines = iter(connection.getresponse().readline, b"")
        return [(time.time(), json.loads(line[6:])) for line in lines if line.startswith(b"data: ")]

    def ask(
        self, name: str, method: str = "GET", path: str = "/v1/models", key: str = KEYS["plenty"], **more: Any
    ) -> Answer:
        """Send one request of a client to the gateway of a node."""
        return exchange(self.address(name), CLIENTS, trust(self.authority), request(method, path, key, **more))


def trust(authority: gateway_pki.Authority, own: str = "") -> ssl.SSLContext:
    """Return what trusts an authority, with a certificate of its own if there is one."""
    context = ssl.create_default_context(cadata=authority.pem)
    context.check_hostname = False
    if own:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(own)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def request(method: str, path: str, key: str = "", headers: tuple[str, ...] = (), body: Any = None) -> bytes:
    """Return a request as it goes over the wire; `body` is bytes as they are, or what becomes JSON with its length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    lines += [f"Authorization: Bearer {key}"] if key else []
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if body is not None and not isinstance(body, bytes):
        lines += [f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def exchange(address: str, port: int, context: ssl.SSLContext, data: bytes) -> Answer:
    """Send bytes over TLS and return what comes back until the end."""
    try:
        with (
            socket.create_connection((address, port), 10) as connection,
            context.wrap_socket(connection, server_hostname=NAME) as secure,
        ):
            secure.settimeout(60)
            with contextlib.suppress(OSError):  # an early answer; the rest of the body is not read
                secure.sendall(data)
            response = http.client.HTTPResponse(secure)
            response.begin()
            headers = {header.lower(): value for header, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
    except ssl.SSLError as error:
        return Answer(0, reason=str(error.reason))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, reason=type(error).__name__)


def received(address: str, port: int, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Send bytes, over TLS or without a context in clear; return every byte that comes back until the end. Raises OSError for a closed port."""
    answer = b""
    with socket.create_connection((address, port), 10) as connection, contextlib.suppress(OSError):
        channel = context.wrap_socket(connection, server_hostname=NAME) if context else connection
        with contextlib.suppress(OSError):  # it is refused already
            channel.sendall(data)
        while block := channel.recv(65536):
            answer += block
    return answer


def strangers(authority: gateway_pki.Authority, gateway: str, node_pem: str) -> dict[str, ssl.SSLContext]:
    """Return by claim what connects to a node proxy without a right certificate of the gateway: none, and those of another purpose, machine, time, authority."""
    pems = {
        "none": "",
        "of a node": node_pem,
        "of another machine": authority.sign("a-third-machine", gateway_pki.CLIENT),
        "that has ended": authority.sign(gateway, gateway_pki.CLIENT, days=-1),
        "of another authority": gateway_pki.authority().sign(gateway, gateway_pki.CLIENT),
    }
    return {claim: trust(authority, pem) for claim, pem in pems.items()}
