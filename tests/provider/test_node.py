"""The resource Node against an SSH server: it ends when the machine answers with its pinned key, or in one message."""

import socket
import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from tests.support.plugin import PATIENCE, Engine, Plugin, Props, urn
from tests.support.ssh_server import Server


def refused(plugin: Plugin, inputs: Props) -> str:
    """Return the message in which a create ends."""
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create("Node", inputs)
    assert not caught.value.trailing_metadata()  # nothing is there to be saved
    return caught.value.details()


def test_a_machine_that_answers_gives_its_connection_and_facts(plugin: Plugin, connection: Props) -> None:
    made = plugin.create("Node", {**connection, "gpus": 8, "wait": 30})
    assert made["connection"] == connection
    assert set(made["facts"]) == {"system", "kernel", "arch", "python"}
    assert made["facts"]["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert (made["gpus"], made["wait"]) == (8, 30)


def test_a_machine_that_comes_up_late_is_waited_for(
    plugin: Plugin, engine: Engine, connection: Props, server: Server
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        made = plugin.start("Node", {**connection, "port": port.getsockname()[1]})
        port.accept()[0].close()  # it is still booting
        for _ in range(2):  # the wait's own connection, and the one that reads the facts
            threading.Thread(target=server._serve, args=(port.accept()[0],), daemon=True).start()
        assert made.result(PATIENCE).id == "node/glm-1"
    engine.hear("waits for SSH at root@127.0.0.1")
    waits = [line for line in engine.lines if "waits for SSH" in line.message]
    assert {(line.urn, line.ephemeral) for line in waits} == {(urn("Node"), True)}


def test_another_host_key_ends_at_once_and_nothing_is_sent(
    plugin: Plugin, connection: Props, server: Server, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    stranger, before = (tmp_path / "key.pub").read_text().strip(), list(server.commands)
    assert refused(plugin, {**connection, "host_key": stranger}) == (
        f"glm-1: connect to root@127.0.0.1:{connection['port']}: another host key: ssh-ed25519 "
        f"{fingerprint(server.identity.with_name('host.pub'))}\n"
        f"  wanted: the pinned one: ssh-ed25519 {fingerprint(tmp_path / 'key.pub')}\n"
        "  next:   find out which machine answers there; after a reinstallation pin the new key as glm-1's host_key"
    )
    assert server.commands == before


def test_a_machine_that_never_answers_is_given_up_after_the_stack_s_wait(plugin: Plugin, connection: Props) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert refused(plugin, {**connection, "port": port, "wait": 1}) == (
        f"glm-1: connect to root@127.0.0.1:{port}: connection refused\n"
        "  wanted: an SSH server that lets us in\n"
        f"  next:   ssh -p {port} root@127.0.0.1 true"
    )


def test_reading_a_node_touches_no_machine(plugin: Plugin, connection: Props, server: Server) -> None:
    before, made = server.connections, {**connection, "connection": connection, "facts": {"kernel": "6.8"}}
    assert plugin.read("Node", connection, made) == made
    assert server.connections == before


def fingerprint(public: Path) -> str:
    told = subprocess.run(["ssh-keygen", "-l", "-f", public], capture_output=True, text=True, check=True)
    return told.stdout.split()[1]
