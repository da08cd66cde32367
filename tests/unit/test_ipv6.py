"""Machines, gateways and servers at addresses of IPv6: in messages, in the stack file, in certificates, and where something listens.

What the proxies' configurations have of them is in test_roles_gateway.py, curl's line in test_cli_endpoint.py, ssh's in test_lines_to_paste.py.
"""

import http.client
import socket
from pathlib import Path
from typing import Any

import pytest

from fleet import certificates, errors, ssh
from fleet.bare_metal import seed_server
from fleet.preflight import on_node_facts
from fleet.provider import gateway as provider
from fleet.stack import requirements, settings
from tests.support.builders import FILE, KEY
from tests.support.program_mocks import config, run

ONE, TWO = "2001:db8::11", "2001:db8::12"


def machines(first: str, second: str) -> dict[str, Any]:
    both = {"prod-1": {"address": first, "host_key": KEY}, "prod-2": {"address": second, "host_key": KEY}}
    return {"source": "ssh", "machines": both}


def test_an_address_is_in_brackets_where_a_port_follows() -> None:
    assert ssh.Target("n", ONE, 2222, "ops").where == f"ops@[{ONE}]:2222"
    assert ssh.Target("n", "192.0.2.11").where == "root@192.0.2.11:22"


def test_one_host_in_two_spellings_is_one_host() -> None:
    with pytest.raises(errors.SettingsError, match="prod-1 has the same address and port"):
        settings.read({"nodes": machines(ONE, "2001:DB8:0:0::0011")}, FILE)
    settings.read({"nodes": machines(ONE, TWO)}, FILE)


def test_a_name_of_the_certificate_is_in_its_shortest_form() -> None:
    gateway = {"nodes": ["prod-1"], "name": "glm.example.com", "names": ["2001:0DB8:0:0::0011"]}
    read = settings.read({"nodes": machines(ONE, TWO), "gateway": gateway}, FILE)
    assert read.gateway and read.gateway.certificate_names == ["glm.example.com", ONE]


def test_an_address_that_holds_on_one_machine_alone_is_refused() -> None:
    gateway: dict[str, Any] = {"nodes": ["prod-1"], "name": "glm.example.com"}
    with pytest.raises(errors.SettingsError, match=r"gateway\.names\[0\]"):
        settings.read({"nodes": machines(ONE, TWO), "gateway": {**gateway, "names": ["fe80::1%eth0"]}}, FILE)
    with pytest.raises(errors.SettingsError, match=r"prod-2\.address"):
        settings.read({"nodes": machines(ONE, "fe80::1%eth0"), "gateway": gateway}, FILE)


def test_the_proxies_of_a_stack_listen_and_are_reached_at_addresses_of_ipv6() -> None:
    values = config("prod")
    named = values["glm-fleet:nodes"]["machines"]
    named["prod-1"]["address"] = ONE
    named["prod-2"]["internal_address"] = TWO
    declared = run("prod", values)
    variables = {name: declared.inputs["Gateway", name]["vars"] for name in ("prod-1", "prod-2")}
    assert [variables[name]["gateway_address"] for name in variables] == [ONE, TWO]
    assert [node["address"] for node in variables["prod-1"]["gateway_nodes"]][:2] == [ONE, TWO]


def test_a_node_s_certificate_has_its_address_and_is_issued_once() -> None:
    authority, private = certificates.new_authority("prod", certificates.now())
    spelt = {"gateway_faces": ["node"], "gateway_address": "2001:DB8:0::11"}
    wanted = provider._wanted({"node": {"name": "glm-1"}, "vars": spelt})["node"]
    pem = certificates.issue(wanted, authority, private, certificates.now())
    assert certificates.hosts(pem) == ["glm-1", ONE]
    assert certificates.reason_to_issue(pem, wanted, authority, certificates.now()) == ""


def test_a_server_of_apt_at_an_address_is_asked_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"deb [signed-by=/k] http://[{ONE}]/debian trixie main\ndeb https://[{TWO}]:8443/x y z\n"
    monkeypatch.setattr(on_node_facts, "read_text", lambda file: text if str(file).endswith("sources.list") else "")
    assert on_node_facts.sources() == [f"[{ONE}]:80", f"[{TWO}]:8443"]
    assert requirements._server(f"http://[{ONE}]/radeon") == f"[{ONE}]:80"


def test_an_installer_is_served_at_an_address() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        port = free.getsockname()[1]
    with seed_server.serving("prod-3", f"[::1]:{port}", {"/a/seed.iso": b"0123456789"}):
        connection = http.client.HTTPConnection("::1", port, timeout=5)
        connection.request("GET", "/a/seed.iso")
        assert connection.getresponse().read() == b"0123456789"
        connection.close()
