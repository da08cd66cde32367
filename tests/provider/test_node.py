"""The resource Node against an SSH server: a create ends when the machine answers with its pinned key, or in one message."""

import socket
import subprocess
import threading
from pathlib import Path

from tests.support.plugin import PATIENCE, Engine, Plugin, Props, expect_error, urn
from tests.support.ssh_server import Server, make_key, public


def failed_create(plugin: Plugin, inputs: Props) -> str:
    """Return the message of a create that must fail."""
    error = expect_error(plugin.create, "Node", inputs)
    assert not error.trailing_metadata()  # no state to save
    return str(error.details())


def test_a_machine_that_answers_returns_its_connection_and_facts(plugin: Plugin, connection: Props) -> None:
    outputs = plugin.create("Node", {**connection, "gpus": 8, "wait": 30})
    assert outputs["connection"] == connection
    assert set(outputs["facts"]) == {"system", "kernel", "arch", "python"}
    assert outputs["facts"]["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert (outputs["gpus"], outputs["wait"]) == (8, 30)


def test_a_create_waits_for_a_machine_that_boots_late(
    plugin: Plugin, engine: Engine, connection: Props, server: Server
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        future = plugin.start("Node", {**connection, "port": port.getsockname()[1]})
        port.accept()[0].close()  # as during its boot
        for _ in range(2):  # the wait's own connection, and the one for the facts
            threading.Thread(target=server._serve, args=(port.accept()[0],), daemon=True).start()
        assert future.result(PATIENCE).id == "node/glm-1"
    engine.hear("waits for SSH at root@127.0.0.1")
    waits = [line for line in engine.lines if "waits for SSH" in line.message]
    assert {(line.urn, line.ephemeral) for line in waits} == {(urn("Node"), True)}


def test_another_host_key_fails_at_once_before_any_command(
    plugin: Plugin, connection: Props, server: Server, tmp_path: Path
) -> None:
    stranger, before = public(make_key(tmp_path, "key")), list(server.commands)
    assert failed_create(plugin, {**connection, "host_key": stranger}) == (
        f"glm-1: connect to root@127.0.0.1:{connection['port']}: another host key: ssh-ed25519 "
        f"{fingerprint(server.identity.with_name('host.pub'))}\n"
        f"  wanted: the pinned one: ssh-ed25519 {fingerprint(tmp_path / 'key.pub')}\n"
        "  next:   find out which machine answers there; after a reinstallation pin the new key as glm-1's host_key"
    )
    assert server.commands == before


def test_a_create_gives_up_a_silent_machine_after_the_stack_s_wait(plugin: Plugin, connection: Props) -> None:
    with socket.create_server(("127.0.0.1", 0)) as socket_server:
        port = socket_server.getsockname()[1]
    assert failed_create(plugin, {**connection, "port": port, "wait": 1}) == (
        f"glm-1: connect to root@127.0.0.1:{port}: connection refused\n"
        "  wanted: an SSH server that lets us in\n"
        f"  next:   ssh -p {port} root@127.0.0.1 true"
    )


def test_a_refresh_of_a_node_opens_no_connection(plugin: Plugin, connection: Props, server: Server) -> None:
    before, state = server.connections, {**connection, "connection": connection, "facts": {"kernel": "6.8"}}
    assert plugin.read("Node", connection, state) == state
    assert server.connections == before


def fingerprint(public: Path) -> str:
    """Return a public key's fingerprint as ssh-keygen prints it."""
    command = ["ssh-keygen", "-l", "-f", public]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]
