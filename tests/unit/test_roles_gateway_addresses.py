"""What the role gateway writes and refuses: addresses in both configurations, and a HAProxy that is too old.

One run of ansible-playbook renders all variants on this machine and changes nothing.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
from typing import Any

import pytest
import yaml

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "gateway"
READER = (ROLE.parent / "host/files/ports.py").read_text() + (ROLE / "files/read.py").read_text()
V4, V6 = "10.0.0.11", "2001:db8::11"
BOTH = [{"name": f"glm-{number}", "address": at, "certificate": f"glm-{number}"} for number, at in ((1, V4), (2, V6))]
# claim → the role's variables
ADDRESSES: dict[str, dict[str, Any]] = {
    "ipv4": {"gateway_address": V4},
    "ipv6": {"gateway_address": V6},
    "every address of both": {"gateway_address": V4, "gateway_bind_address": "::"},
    "one address": {"gateway_address": V6, "gateway_bind_address": "2001:db8::99"},
}
# claim → the host's system, its HAProxy, the faces
VERSIONS: dict[str, tuple[str, str, list[str]]] = {
    "a node with 2.4": ("Ubuntu 22.04.5 LTS", "2.4.30", ["node"]),
    "a gateway with 2.4": ("Ubuntu 22.04.5 LTS", "2.4.30", ["node", "clients"]),
    "a gateway with 2.6": ("Debian GNU/Linux 12 (bookworm)", "2.6.12", ["node", "clients"]),
    "a node with 2.2": ("Debian GNU/Linux 11 (bullseye)", "2.2.9", ["node"]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By claim the texts of the configurations, or what the check of the version says."""
    folder = tmp_path_factory.mktemp("gateway")
    files = {
        name: f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{name}.cfg.j2') }}}}"
        for name in ("proxy", "gateway")
    }
    faces = {
        "gateway_faces": ["node", "clients"],
        "gateway_name": "glm-1",
        "gateway_nodes": BOTH,
        "gateway_names": ["glm-1"],
        "ansible_managed": "x",
    }
    plays = []
    for own in ADDRESSES.values():
        plays.append(
            play({**faces, **own}, {"ansible.builtin.debug": {"msg": "{{ files }}"}, "vars": {"files": files}})
        )
    for system, version, own_faces in VERSIONS.values():
        check = {"ansible.builtin.include_tasks": f"{ROLE}/tasks/version.yml"}
        message = {"ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}"}}
        read = {"stdout": json.dumps({"system": system, "version": version})}
        plays.append(
            play({"gateway_faces": own_faces, "__gateway_read": read}, {"block": [check], "rescue": [message]})
        )
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "all.yml"]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads(process.stdout[process.stdout.index("{\n") :])
    last = [one["tasks"][-1]["hosts"]["localhost"] for one in report["plays"]]
    return dict(zip([*ADDRESSES, *VERSIONS], [result.get("msg") for result in last], strict=True))


def play(values: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Return a play of one task with the role's variables."""
    return {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [{"vars": {**values, "ansible_python_interpreter": sys.executable}, "block": [task]}],
    }


def lines(text: str, word: str) -> list[str]:
    """Return the addresses of the lines that begin with a word, without the loopback's."""
    return list(re.findall(rf"(?m)^  {word} (.*?) (?:ssl|verifyhost)", text))


@pytest.mark.parametrize(
    ("claim", "node", "clients"),
    [
        ("ipv4", "10.0.0.11:8443", "0.0.0.0:443"),
        ("ipv6", "ipv6@[2001:db8::11]:8443", "ipv6@[::]:443 v4v6"),
        ("every address of both", "10.0.0.11:8443", "ipv6@[::]:443 v4v6"),
        ("one address", "ipv6@[2001:db8::11]:8443", "ipv6@[2001:db8::99]:443"),
    ],
)
def test_a_proxy_listens_on_addresses_of_ipv4_and_ipv6(
    results: dict[str, Any], claim: str, node: str, clients: str
) -> None:
    assert lines(results[claim]["proxy"], "bind") == [node]
    assert lines(results[claim]["gateway"], "bind") == [clients]


def test_a_gateway_reaches_nodes_at_addresses_of_ipv4_and_ipv6(results: dict[str, Any]) -> None:
    reached = lines(results["ipv4"]["gateway"], "server")
    assert reached == ["glm-1 10.0.0.11:8443", "glm-2 ipv6@[2001:db8::11]:8443"]


def test_the_metrics_are_on_the_loopback_alone(results: dict[str, Any]) -> None:
    for claim in ADDRESSES:
        for text in results[claim].values():
            (metrics,) = re.findall(r"(?m)^frontend metrics\n  bind (\S+)$", text)
            assert metrics.startswith("127.0.0.1:")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_another_process_has_on_ipv4_or_ipv6_is_taken(address: str, tmp_path: pathlib.Path) -> None:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        port = server.getsockname()[1]
        query = {
            "faces": [],
            "ports": {"fleet-proxy": [port]},
            "record": str(tmp_path / "none"),
            "address": "",
            "virtual": "",
        }
        query |= {"packages": [], "wanted": [], "files": []}
        command = [sys.executable, "-c", READER]
        read = json.loads(subprocess.check_output(command, input=json.dumps(query), text=True))
    assert read["taken"] == [port]
    assert json.loads(subprocess.check_output(command, input=json.dumps(query), text=True))["taken"] == []


@pytest.mark.parametrize("claim", ["a node with 2.4", "a gateway with 2.6"])
def test_a_haproxy_that_is_new_enough_is_accepted(results: dict[str, Any], claim: str) -> None:
    assert results[claim] is None


def test_a_gateway_on_ubuntu_22_04_is_refused_with_its_system_and_version(results: dict[str, Any]) -> None:
    assert results["a gateway with 2.4"] == (
        "Ubuntu 22.04.5 LTS has HAProxy 2.4.30\n"
        "wanted: 2.6 or later for the gateway\n"
        "next: name machines with Debian 12, Ubuntu 24.04 or a later system in glm-fleet:gateway.nodes"
    )


def test_a_node_proxy_needs_2_4(results: dict[str, Any]) -> None:
    assert results["a node with 2.2"] == (
        "Debian GNU/Linux 11 (bullseye) has HAProxy 2.2.9\n"
        "wanted: 2.4 or later for the node proxy\n"
        "next: install a newer system on this machine"
    )
