"""The files that the role gateway writes: for a gateway that is alone, for each of several, for a machine that only serves.

One run of ansible-playbook renders all; HAProxy checks the same files on lab nodes (tests/roles/test_gateway.py).
"""

import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
import yaml

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "gateway"
READER = (ROLE.parent / "host/files/ports.py").read_text() + (ROLE / "files/read.py").read_text()
ENTRIES = [
    {"name": f"glm-{number}", "address": f"10.0.0.{number}", "certificate": f"glm-{number}{reissue}"}
    for number, reissue in ((1, ""), (2, ""), (3, ".r2"))
]
GATEWAY = {
    "gateway_faces": ["clients"],
    "gateway_name": "glm-1",
    "gateway_address": "10.0.0.1",
    "gateway_nodes": ENTRIES,
    "gateway_clients": {"team-a": {"sha256": "5f" * 32, "requests_per_minute": 6, "megabytes_per_minute": 2, "concurrent": 4}},
}  # fmt: skip
VIRTUAL = {"gateway_name": "glm-2", "gateway_address": "10.0.0.2", "gateway_virtual_address": "192.0.2.10/24"}
# The machine as the role read it.
MACHINE = {"interface": "eth0", "device": "eth1", "units": [], "active": []}
VARIANTS: dict[str, dict[str, Any]] = {
    "alone": {**GATEWAY, "gateway_peers": ENTRIES[:1]},
    "of three": {**GATEWAY, "gateway_peers": ENTRIES},
    "with an address": {**GATEWAY, "gateway_peers": ENTRIES, **VIRTUAL},
    "by ACME": {**GATEWAY, "gateway_peers": ENTRIES[:1], "gateway_acme": {"thumbprint": "t" * 43}},
    "node": {"gateway_faces": ["node"], "gateway_address": "10.0.0.9", "gateway_names": ["glm-1", "glm-2"]},
}
TEXTS = ("gateway.cfg", "running.lua", "proxy.cfg")
# variant → file → text; `paths` are those that the role writes, `needed` the variables with certificates, `ports` by unit,
# `packages` what is installed
Rendered = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("rendered")
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    values = {
        **{file: f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{file}.j2') }}}}" for file in TEXTS},
        "paths": "{{ (_gateway_secrets + _gateway_files) | map(attribute='path') | list }}",
        "needed": "{{ _gateway_needed }}",
        "ports": "{{ _gateway_ports }}",
        "packages": "{{ _gateway_packages }}",
    }
    address = f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/keepalived.conf.j2') }}}}"
    common = {
        "ansible_managed": "x",
        "ansible_python_interpreter": sys.executable,
        "__gateway_read": {"stdout": json.dumps(MACHINE)},
    }
    plays = [
        {
            **{"hosts": "localhost", "connection": "local", "gather_facts": False},
            "vars_files": [str(ROLE / "vars/main.yml")],
            "vars": {**defaults, **common, **own},
            "tasks": [
                {
                    "ansible.builtin.debug": {"msg": "{{ values }}"},
                    "vars": {"values": {**values, "address": address} if "gateway_virtual_address" in own else values},
                }
            ],
        }
        for own in VARIANTS.values()
    ]
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [f"{pathlib.Path(sys.executable).parent}/ansible-playbook", "-i", "localhost,", str(folder / "all.yml")]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [play["tasks"][0]["hosts"]["localhost"]["msg"] for play in json.loads(process.stdout)["plays"]]
    return dict(zip(VARIANTS, results, strict=True))


def section(text: str, head: str) -> list[str]:
    """Return the lines of a section of HAProxy's configuration."""
    (body,) = re.findall(rf"(?m)^{head}\n((?:[ #].*\n)+)", text)
    return [line.strip() for line in body.splitlines()]


def tables(text: str) -> dict[str, str]:
    """Return {name: definition} of the stick tables."""
    return dict(re.findall(r"(?m)^backend (\S+)\n  stick-table (.+)$", text))


def test_a_gateway_that_is_alone_listens_for_no_other_and_keeps_its_counters_over_a_reload(rendered: Rendered) -> None:
    text = rendered["alone"]["gateway.cfg"]
    assert "listen peers" not in text and "8444" not in text and "lua-load" not in text
    assert section(text, "peers gateways") == ["peer glm-1 unix@/run/fleet-gateway/peers.sock"]
    assert tables(text).keys() == {"limits-glm-1"}
    assert rendered["alone"]["paths"] == [
        f"/etc/fleet/gateway/{name}" for name in ("client.pem", "server.pem", "ca.pem", "keys.map", "haproxy.cfg")
    ]
    assert "GATEWAY_PEER_PEM" not in rendered["alone"]["needed"]
    assert 8444 not in rendered["alone"]["ports"]["fleet-gateway"]


def test_several_gateways_accept_each_other_by_certificate_and_name(rendered: Rendered) -> None:
    text = rendered["of three"]["gateway.cfg"]
    listen = section(text, "listen peers")
    (bind,) = [line for line in listen if line.startswith("bind ")]
    assert bind.startswith("bind 10.0.0.1:8444 ssl ") and bind.endswith(" verify required")
    assert "tcp-request session reject unless { ssl_c_s_dn(cn) -m str glm-2 glm-3.r2 }" in listen
    peers = section(text, "peers gateways")
    assert [line.split()[1:3] for line in peers[1:]] == [["glm-2", "10.0.0.2:8444"], ["glm-3", "10.0.0.3:8444"]]
    assert all(" verify required " in line for line in peers[1:])
    assert [line.rpartition(" verifyhost ")[2] for line in peers[1:]] == ["glm-2", "glm-3.r2"]
    assert {"/etc/fleet/gateway/peer.pem", "/etc/fleet/gateway/running.lua"} <= {*rendered["of three"]["paths"]}
    assert "GATEWAY_PEER_PEM" in rendered["of three"]["needed"]
    assert 8444 in rendered["of three"]["ports"]["fleet-gateway"]


def test_a_machine_gets_the_packages_and_the_port_of_what_it_does(rendered: Rendered) -> None:
    more = {name: variant["packages"][1:] for name, variant in rendered.items()}
    assert more == {
        "alone": [],
        "of three": [],
        "with an address": ["keepalived"],
        "by ACME": ["dehydrated"],
        "node": [],
    }
    assert [name for name, variant in rendered.items() if 80 in variant["ports"]["fleet-gateway"]] == ["by ACME"]


@pytest.mark.parametrize(
    ("limit", "own", "others"),
    [
        ("requests", "sc_gpc0_rate(0)", "table_gpc0_rate(limits-{})"),
        ("bytes", "sc_bytes_in_rate(0)", "table_bytes_in_rate(limits-{})"),
        ("concurrent", "sc_conn_cur(0)", "table_gpt0(running-{})"),
    ],
)
def test_each_limit_is_compared_with_the_sum_of_all_gateways(
    rendered: Rendered, limit: str, own: str, others: str
) -> None:
    """Each gateway writes only its own table: of two that write the same entry, the last one would win."""
    text = rendered["of three"]["gateway.cfg"]
    sums = re.findall(rf"set-var\(txn\.{limit}_used\) (.+)", text)
    copies = [f"var(txn.name),{others.format(name)},add(txn.{limit}_used)" for name in ("glm-2", "glm-3")]
    assert sums == [own, *copies]
    assert re.findall(r"track-sc\d \S+ table (\S+)", text) == ["limits-glm-1", "running-glm-1"]
    assert {*tables(text)} == {f"{kind}-{entry['name']}" for kind in ("limits", "running") for entry in ENTRIES}
    assert all(definition.endswith(" peers gateways") for definition in tables(text).values())


def test_all_gateways_define_a_table_equally(rendered: Rendered) -> None:
    """HAProxy exchanges no table whose definition differs, and a gateway that gets another one beside it keeps its counters."""
    alone, several = tables(rendered["alone"]["gateway.cfg"]), tables(rendered["of three"]["gateway.cfg"])
    assert {several[f"limits-{entry['name']}"] for entry in ENTRIES} == {alone["limits-glm-1"]}
    assert len({several[f"running-{entry['name']}"] for entry in ENTRIES}) == 1


def test_a_gateway_reports_its_running_requests_more_often_than_a_report_expires(rendered: Rendered) -> None:
    (pause,) = re.findall(r"core\.msleep\((\d+)\)", rendered["of three"]["running.lua"])
    (expires,) = re.findall(r"expire (\d+)s", tables(rendered["of three"]["gateway.cfg"])["running-glm-1"])
    assert int(pause) * 3 <= int(expires) * 1000
    assert 'local limits, running = "limits-glm-1", "running-glm-1"' in rendered["of three"]["running.lua"]


def test_a_node_proxy_has_only_itself_for_a_peer(rendered: Rendered) -> None:
    text = rendered["node"]["proxy.cfg"]
    assert section(text, "peers self") == ["peer self unix@/run/fleet-proxy/peers.sock"]
    assert "tcp-request session reject unless { ssl_c_s_dn(cn) -m str glm-1 glm-2 }" in section(text, "frontend node")


def test_the_virtual_address_goes_to_the_next_gateway_and_stays_there(rendered: Rendered) -> None:
    lines = [line.strip() for line in rendered["with an address"]["address"].splitlines()]
    assert {"state BACKUP", "nopreempt", "priority 199"} <= {*lines}, "the second of the stack file"
    assert "192.0.2.10/24 dev eth1" in lines
    assert lines[lines.index("track_interface {") + 1] == "eth1", "the protocol's packets go over eth0"


def test_the_gateways_speak_of_the_virtual_address_to_each_other_alone(rendered: Rendered) -> None:
    text = rendered["with an address"]["address"]
    (peers,) = re.findall(r"unicast_peer \{([^}]*)\}", text)
    assert peers.split() == ["10.0.0.1", "10.0.0.3"]
    assert "unicast_src_ip 10.0.0.2" in text and "vrrp_check_unicast_src" in text
    assert "auth_" not in text, "a password in clear protects nothing"


LINKS = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
    {"ifname": "eth0", "addr_info": [{"local": "10.0.0.2", "prefixlen": 24}, {"local": "fe80::2", "prefixlen": 64}]},
    {"ifname": "eth1", "addr_info": [{"local": "192.0.2.12", "prefixlen": 24}, {"local": "192.0.2.10", "prefixlen": 24}]},
    {"ifname": "eth2", "addr_info": [{"local": "198.51.100.10", "prefixlen": 24}]},
]  # fmt: skip


@pytest.mark.parametrize(
    ("virtual", "device"),
    [
        ("192.0.2.10/24", "eth1"),
        ("198.51.100.10/24", ""),  # nothing but the virtual address itself
        ("203.0.113.1/24", ""),
        ("", ""),
    ],
)
def test_the_device_of_the_virtual_address_has_another_one_in_its_network(
    tmp_path: pathlib.Path, virtual: str, device: str
) -> None:
    (tmp_path / "ip").write_text(f"#!/bin/sh\necho '{json.dumps(LINKS)}'\n")
    for name in ("dpkg-query", "apt-cache", "systemctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    query = {"faces": [], "ports": {}, "packages": [], "wanted": [], "files": [], "record": str(tmp_path / "none")}
    query |= {"address": "10.0.0.2", "virtual": virtual}
    command, env = [sys.executable, "-c", READER], {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = subprocess.run(command, input=json.dumps(query), capture_output=True, text=True, env=env, check=True)
    assert (json.loads(run.stdout)["device"], json.loads(run.stdout)["interface"]) == (
        device,
        "eth0" if virtual else "",
    )


class Answers404(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def answers(port: int) -> bool:
    """Return what the program says that keepalived asks."""
    return subprocess.run([ROLE / "files/gateway-answers", str(port)], capture_output=True).returncode == 0


def test_a_gateway_that_is_gone_or_frozen_loses_the_virtual_address() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers404) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert answers(server.server_port)
        server.shutdown()
        thread.join()
    assert not answers(server.server_port), "refused"
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert not answers(frozen.getsockname()[1]), "accepted by the kernel, and no answer"
