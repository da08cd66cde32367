"""Claims about certificates by ACME with the real programs: Debian's dehydrated and HAProxy, Pebble as the server, on this machine's loopback.

Two gateways, `asks` and `other`; the name has the address of `other` alone, so that each challenge is answered by the gateway that did not ask.
The tests are steps: each goes on where the one before it stopped.
"""

import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import certificates
from tests.support import acme_machines, gateway_pki, pebble_server
from tests.support.acme_machines import CONTROL, Machine

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.needs("root", "haproxy", "dehydrated", "go", "unshare", "nsenter"),
    pytest.mark.timeout(900),
]
NAME, MORE = "glm.example", "glm2.example"
ASKS, OTHER = "127.0.0.11", "127.0.0.12"
HOSTS = f"127.0.0.1 {pebble_server.HOST} localhost\n{OTHER} {NAME} {MORE}\n"
KEY, REPLICA_KEY = "sk-of-a-client", "sk-of-the-replica"
STAND_IN = pathlib.Path(__file__).parents[1] / "support" / "standin_replica.py"
SOCKET = "/run/fleet/stand-0/sock"
ACCOUNT, THUMBPRINT = certificates.new_account()
STREAM = """
import json, ssl, sys, http.client, time
context = ssl.create_default_context(cafile=sys.argv[2]); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
lost, done, end = [], 0, time.time() + float(sys.argv[1])
while time.time() < end:
    try:
        connection = http.client.HTTPSConnection("127.0.0.11", 443, context=context, timeout=30)
        body = json.dumps({"stream": True, "tokens": 30, "pause": 0.1})
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer sk-of-a-client"})
        answer = connection.getresponse()
        tokens = sum(line.startswith(b"data: {") for line in answer)
        if answer.status != 200 or tokens != 30:
            raise ValueError(f"{answer.status}, {tokens} tokens")
        done += 1
    except Exception as error:
        lost.append(repr(error))
print(json.dumps({"done": done, "lost": lost}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("acme")
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o777 == 0o700:  # other users run here
            path.chmod(0o711)
    return folder


@pytest.fixture(scope="module")
def authority() -> gateway_pki.Authority:
    return gateway_pki.authority("the stack's own")


def variables(address: str) -> dict[str, Any]:
    limits = {"requests_per_minute": 100_000, "megabytes_per_minute": 4000, "concurrent": 1000}
    machines = [
        {"name": name, "address": at, "certificate": name} for name, at in {"asks": ASKS, "other": OTHER}.items()
    ]
    return {
        "gateway_faces": ["node", "clients"],
        "gateway_name": "asks" if address == ASKS else "other",
        "gateway_bind_address": address,
        "gateway_address": address,
        "gateway_nodes": machines[:1],
        "gateway_peers": machines,
        "gateway_names": ["asks", "other"],
        "gateway_replicas": [{"name": "stand-0", "model": "m", "socket": SOCKET}],
        "gateway_clients": {"team-a": {"sha256": __import__("hashlib").sha256(KEY.encode()).hexdigest(), **limits}},
        "gateway_metrics_port": 8406 if address == ASKS else 8506,
        "gateway_node_metrics_port": 8405 if address == ASKS else 8505,
        "gateway_acme": acme(NAME),
    }


def acme(*names: str) -> dict[str, Any]:
    return {
        "server": pebble_server.DIRECTORY,
        "contact": "ops@example.com",
        "names": list(names),
        "thumbprint": THUMBPRINT,
    }


def settle(place: Machine, *names: str) -> None:
    """Write the settings of acme-control as the role does."""
    text = acme_machines.rendered(["acme.json.j2"], {"gateway_acme": acme(*names)}, place.folder)
    place.write("/etc/fleet/acme/settings.json", text["acme.json.j2"], "fleet-acme")


def set_up(place: Machine, address: str, authority: gateway_pki.Authority, trusted: str) -> None:
    """Set a gateway up as the role does, and start its proxies."""
    templates = ("proxy.cfg.j2", "gateway.cfg.j2", "keys.map.j2", "running.lua.j2", "acme.json.j2")
    texts = acme_machines.rendered(templates, variables(address), place.folder)
    for face in ("proxy", "gateway"):
        place.write(f"/etc/fleet/{face}/haproxy.cfg", texts[f"{face}.cfg.j2"], f"fleet-{face}")
        place.write(f"/etc/fleet/{face}/ca.pem", authority.pem, f"fleet-{face}")
    place.write("/etc/fleet/proxy/key.map", f"replica {REPLICA_KEY}\n", "fleet-proxy")
    place.write("/etc/fleet/proxy/node.pem", authority.sign(place.folder.name, gateway_pki.SERVER), "fleet-proxy")
    place.write("/etc/fleet/gateway/client.pem", authority.sign(place.folder.name, gateway_pki.CLIENT), "fleet-gateway")
    place.write("/etc/fleet/gateway/peer.pem", authority.sign(place.folder.name, gateway_pki.SERVER), "fleet-gateway")
    place.write("/etc/fleet/gateway/server.pem", authority.sign(NAME, gateway_pki.SERVER), "fleet-gateway")
    place.write("/etc/fleet/gateway/keys.map", texts["keys.map.j2"], "fleet-gateway")
    place.write("/etc/fleet/gateway/running.lua", texts["running.lua.j2"], "fleet-gateway")
    place.run("install -d -g fleet-gateway -m 750 /etc/fleet/gateway/acme")
    place.write("/etc/fleet/acme/settings.json", texts["acme.json.j2"], "fleet-acme")
    place.write("/etc/fleet/acme/account.pem", ACCOUNT, "fleet-acme")
    place.write("/etc/fleet/acme/ca.pem", trusted, "fleet-acme")
    for program in ("acme-control", "proxy-control"):
        place.write(f"{CONTROL}/{program}", (acme_machines.ROLE / "files" / program).read_text(), "root", 0o755)
    assert place.control("seed") == {"changed": True, "by": "authority", "ends": ends(90), "right": False, "seen": ""}
    for face in ("proxy", "gateway"):
        user = (
            "setpriv",
            f"--reuid=fleet-{face}",
            f"--regid=fleet-{face}",
            "--clear-groups",
            "--ambient-caps=+net_bind_service",
            "--inh-caps=+net_bind_service",
        )
        haproxy = (
            "haproxy",
            "-W",
            "-f",
            f"/etc/fleet/{face}/haproxy.cfg",
            "-p",
            f"/run/fleet-{face}/pid",
            "-S",
            f"/run/fleet-{face}/master.sock",
        )
        place.start(*user, *haproxy, log=place.folder / f"{face}.log")
    place.wait(f"curl -sk -m 2 https://{address}/ && test -S /run/fleet-gateway/admin.sock")


def ends(days: int) -> str:
    return str(certificates.now().date() + certificates.datetime.timedelta(days=days))


@pytest.fixture(scope="module")
def asks(folder: pathlib.Path, authority: gateway_pki.Authority) -> Iterator[Machine]:
    place = acme_machines.machine(folder / "asks", HOSTS)
    other = acme_machines.machine(folder / "other", HOSTS, place)
    try:
        public = gateway_pki.authority("of the ACME server itself")
        (folder / "pebble-ca.pem").write_text(public.pem)
        pebble_server.start(place, folder, public)
        set_up(other, OTHER, authority, public.pem)
        set_up(place, ASKS, authority, public.pem)
        place.start("python3", str(STAND_IN), "0", "fleet-proxy", REPLICA_KEY, SOCKET, log=folder / "replica.log")
        place.wait(f"curl -sfk -m 2 https://{ASKS}/v1/models -H 'Authorization: Bearer {KEY}'")
        yield place
    finally:
        other.end()
        place.end()


def served(place: Machine, address: str = ASKS) -> str:
    """Return the certificate that a client gets."""
    return place.run(
        f"echo | openssl s_client -connect {address}:443 -servername {NAME} 2>/dev/null | openssl x509"
    ).stdout


def test_before_the_first_certificate_clients_get_one_of_the_stack_s_own_authority(
    asks: Machine, authority: gateway_pki.Authority
) -> None:
    assert (
        certificates.reason_to_issue(
            served(asks), certificates.Wanted("server", NAME, (NAME,)), authority.pem, certificates.now()
        )
        == ""
    )


CODE = "curl -s -o /dev/null -w '%{http_code}' "


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/.well-known/acme-challenge/abcdEFGH_-0123456789ab", "200"),
        ("/.well-known/acme-challenge/", "404"),
        ("/.well-known/acme-challenge/abcdefghijklm/nopqrstuvwxyz", "404"),
        ("/.well-known/acme-challenge/tooshort", "404"),
        ("/.well-known/acme-challenge/abcdefghijklm%0d%0anopqrstuvwxyz", "404"),
        ("/.well-known/acme-challenge/abcdefghijklmnopq<script>", "404"),
        (f"/.well-known/acme-challenge/{'a' * 4000}", "404"),
        ("/.well-known/acme-challenge", "404"),
        ("/", "404"),
        ("/v1/models", "404"),
        ("/metrics", "404"),
    ],
)
def test_port_80_answers_challenges_alone(asks: Machine, path: str, status: str) -> None:
    assert asks.run(f"{CODE} --path-as-is 'http://{ASKS}{path}'").stdout == status


def test_a_failure_says_what_the_server_and_the_name_say_and_clients_go_on(asks: Machine) -> None:
    settle(asks, "elsewhere.example")
    reply = asks.control("now")
    assert (reply["by"], reply["changed"], reply["right"]) == ("authority", False, False)
    assert "elsewhere.example has no address here" in reply["seen"]
    assert reply["seen"].startswith('Get "http://elsewhere.example:80/.well-known/acme-challenge/'), (
        "Pebble's own words"
    )
    settle(asks, NAME)


def test_the_first_certificate_comes_by_a_challenge_that_another_gateway_answers(
    asks: Machine, folder: pathlib.Path
) -> None:
    asked = (folder / "pebble.log").stat().st_size
    reply = asks.control("now")
    assert {**reply, "ends": ""} == {"changed": True, "by": "acme", "right": True, "seen": "", "ends": ""}
    assert (
        "Pebble Intermediate CA"
        in asks.run(
            f"echo | openssl s_client -connect {ASKS}:443 -servername {NAME} 2>/dev/null | openssl x509 -noout -issuer"
        ).stdout
    )
    log = (folder / "pebble.log").read_text()[asked:]
    assert f"http://{NAME}:80/.well-known/acme-challenge/" in log
    modes = asks.run(
        "stat -c '%a %U:%G %n' /etc/fleet/gateway/acme/server.pem /var/lib/fleet-acme/*"
    ).stdout.splitlines()
    assert modes[0] == "640 root:fleet-gateway /etc/fleet/gateway/acme/server.pem"
    assert {line.rsplit("/")[-1] for line in modes[1:]} == {"certificate.pem", "last.json"}
    assert all(line.startswith("600 fleet-acme:fleet-acme") for line in modes[1:])


def test_nobody_is_asked_while_the_certificate_holds(asks: Machine, folder: pathlib.Path) -> None:
    asked, before = (folder / "pebble.log").stat().st_size, served(asks)
    assert asks.control("now")["changed"] is False
    assert ((folder / "pebble.log").stat().st_size, served(asks)) == (asked, before)


def test_a_renewal_reloads_the_gateway_and_no_stream_is_lost(asks: Machine, folder: pathlib.Path) -> None:
    before = served(asks)
    clients = [
        subprocess.Popen(
            [*asks.enter, "python3", "-c", STREAM, "70", str(folder / "pebble-ca.pem")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    seen = {before}
    while any(client.poll() is None for client in clients):
        asks.run("systemctl restart fleet-acme.service")  # what the timer does twice a day
        seen.add(served(asks))
        time.sleep(1)
    sums = [json.loads(client.communicate()[0]) for client in clients]
    assert len(seen) >= 3, "a certificate holds 45 s and is renewed after 30"
    assert [sum["lost"] for sum in sums] == [[]] * 4
    assert min(sum["done"] for sum in sums) >= 10
