"""Claims about connections: only the pinned key, refusals in words and in time, commands, forwarded ports."""

import contextlib
import dataclasses
import re
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ssh import connection as ssh_connection
from fleet.ssh import handshake, reach
from tests.support.http_server import Handler, LoopbackServer
from tests.support.ssh_server import Server, make_key, public


def test_the_pinned_key_is_accepted(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        assert connection.run("echo $((6 * 7))").stdout == "42\n"


def test_another_host_key_is_refused_before_any_command(server: Server, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other", "host")
    target = dataclasses.replace(server.target, host_key=public(other))
    with pytest.raises(errors.HostKeyMismatch) as caught, ssh.connect(target):
        pass
    assert handshake.fingerprint(server.host_key.asbytes()) in caught.value.seen
    assert handshake.fingerprint(other.asbytes()) in caught.value.wanted
    assert server.commands == []


def test_a_key_of_another_type_than_the_pinned_one_is_refused(server: Server) -> None:
    target = dataclasses.replace(server.target, host_key=f"ssh-rsa {server.host_key.get_base64()}")
    with pytest.raises(errors.HostKeyMismatch, match="no host key of type ssh-rsa"), ssh.connect(target):
        pass


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 not-base64"])
def test_without_a_pinned_key_no_connection_opens(server: Server, key: str) -> None:
    with pytest.raises(errors.HostKeyMismatch), ssh.connect(dataclasses.replace(server.target, host_key=key)):
        pass
    assert server.connections == 0


def test_a_silent_machine_is_unreachable_in_time(server: Server) -> None:
    server.gate.clear()
    start = time.monotonic()
    with pytest.raises(errors.Unreachable, match="no SSH handshake"), ssh.connect(server.target, timeout=1):
        pass
    assert time.monotonic() - start < 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (b"", r"connected, but the connection was closed before the SSH banner, after 0\.\d s"),
        (b"HTTP/1.1 400 Bad Request\r\n" * 100, "connected, but what answers there is no SSH server"),
        (b"SSH-2.0-x\r\n", r"connected, but the connection was closed during the SSH handshake, after 0\.\d s"),
    ],
)
def test_a_connection_that_closes_early_is_no_timeout(server: Server, words: bytes, message: str) -> None:
    """As by sshd above its MaxStartups, by an HTTP proxy, by a node that shuts down."""

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # unread bytes would make it a reset, which may lose the words
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        future = pool.submit(answer)
        target = dataclasses.replace(server.target, port=listener.getsockname()[1])
        with pytest.raises(errors.Unreachable) as caught, ssh.connect(target, timeout=10):
            pass
        future.result(10)
    assert re.fullmatch(message, caught.value.seen)


@pytest.mark.slow
def test_the_wait_for_others_handshakes_is_not_the_machine_s_fault(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than may shake hands at once: its time begins with its turn."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(reach, "HANDSHAKES", places)
    with ThreadPoolExecutor() as pool:
        with places:
            late = pool.submit(lambda: reaches(server.target, timeout=3))
            assert server.arrived.wait(10)
            assert futures.wait([late], timeout=3.5).not_done, "it waits longer than a machine may take"
        assert late.result()


def reaches(target: ssh.Target, timeout: float) -> bool:
    with ssh.connect(target, timeout) as connection:
        return connection.run("true").rc == 0


def test_a_closed_port_is_reported_at_once(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(errors.Unreachable) as caught, ssh.connect(dataclasses.replace(server.target, port=port)):
        pass
    assert str(caught.value) == (
        f"glm-1: connect to root@127.0.0.1:{port}: connection refused\n"
        "  wanted: an SSH server that lets us in\n"
        f"  next:   ssh -p {port} root@127.0.0.1 true"
    )


def test_a_key_that_the_machine_does_not_take_is_a_refused_login(server: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger", "user")
    target = dataclasses.replace(server.target, identity=str(tmp_path / "stranger" / "user"))
    with pytest.raises(errors.LoginRefused), ssh.connect(target):
        pass


@pytest.fixture
def agent(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent that holds the right key."""
    with tempfile.TemporaryDirectory() as folder:  # a short path, for the socket in it
        path = f"{folder}/agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            process.stdout.readline()  # it prints its address once it listens
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            subprocess.run(["ssh-add", "-q", str(server.identity)], check=True)
            yield
            process.terminate()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("identity", ["", "locked"], ids=["no identity", "a passphrase"])
def test_the_agent_replaces_an_identity_that_is_missing_or_locked(
    server: Server, tmp_path: Path, identity: str
) -> None:
    locked = str(tmp_path / "locked")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", locked], check=True)
    assert reaches(dataclasses.replace(server.target, identity=identity and locked), timeout=15)


def test_an_identity_that_is_no_file_is_reported(server: Server) -> None:
    nowhere = dataclasses.replace(server.target, identity="/nowhere/id")
    with pytest.raises(errors.LoginRefused, match="there is no file /nowhere/id"), ssh.connect(nowhere):
        pass


def test_a_command_returns_both_streams_and_its_exit_code(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        assert connection.run("cat; echo no >&2; exit 3", stdin="yes") == ssh.Result(3, "yes", "no\n")


@pytest.mark.parametrize("command", ["sleep 10", "while :; do echo; sleep 0.01; done"], ids=["silent", "printing"])
def test_a_command_that_does_not_end_fails_in_time(server: Server, command: str) -> None:
    with ssh.connect(server.target) as connection, pytest.raises(errors.CommandFailed, match=r"no end within 0\.5 s"):
        connection.run(command, timeout=0.5)


def test_a_connection_that_breaks_is_unreachable(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        server.close()
        with pytest.raises(errors.Unreachable, match="the connection broke"):
            connection.run("true")


def _ask_through_a_server_that_closes(server: Server) -> None:
    with ssh.connect(server.target) as connection, connection.forward(8000) as port:
        server.close()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10)


def test_a_connection_that_breaks_during_a_port_forward_is_unreachable(server: Server) -> None:
    with pytest.raises(errors.Unreachable, match="the connection broke") as caught:
        _ask_through_a_server_that_closes(server)
    assert caught.value.doing == "forward port 8000"


def test_lines_arrive_while_the_command_runs(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ssh.connect(server.target) as connection:
        lines = connection.lines(f"cat; until [ -e {gate} ]; do sleep 0.05; done; echo second", stdin="first\n")
        assert next(lines) == "first\n"
        gate.touch()
        assert list(lines) == ["second\n"]


def test_a_command_that_prints_too_much_fails_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_connection, "MOST", 1 << 20)
    start = time.monotonic()
    with ssh.connect(server.target) as connection:
        for stream in (1, 2):
            with pytest.raises(errors.CommandFailed, match="more than 1 MiB of output"):
                connection.run(f"yes >&{stream}", timeout=30)
    assert time.monotonic() - start < 20


def test_the_connection_outlives_commands_that_still_print_when_they_are_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_connection, "MOST", 1 << 18)
    with ssh.connect(server.target) as connection:
        for _ in range(30):
            with pytest.raises(errors.CommandFailed, match="output"):
                connection.run("yes", timeout=30)
        assert connection.run("echo still here").stdout == "still here\n"


@pytest.mark.parametrize(
    ("command", "silence", "message"),
    [
        ("exec sleep 60", 0.5, r"no output for 0\.5 s"),
        ("yes | tr -d '\\n'", 30, "a line of more than 1 MiB"),
        ("echo no disk >&2; exit 3", 30, "no disk"),
    ],
    ids=["silence", "too long a line", "a failure, by its last line"],
)
def test_a_command_that_fails_after_some_lines_is_reported(
    server: Server, monkeypatch: pytest.MonkeyPatch, command: str, silence: float, message: str
) -> None:
    monkeypatch.setattr(ssh_connection, "LONGEST", 1 << 20)
    with ssh.connect(server.target) as connection:
        lines = connection.lines(f"echo first; {command}", silence=silence)
        assert next(lines) == "first\n"
        with pytest.raises(errors.CommandFailed, match=message):
            next(lines)


def test_a_connection_that_breaks_between_two_lines_is_unreachable(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        lines = connection.lines("echo first; exec sleep 60")
        assert next(lines) == "first\n"
        server.close()
        with pytest.raises(errors.Unreachable, match="the connection broke"):
            next(lines)


def test_become_runs_a_command_through_sudo_without_a_password_prompt(server: Server) -> None:
    with ssh.connect(dataclasses.replace(server.target, become=True)) as connection:
        connection.run("id -u 'x'")
    assert server.commands == ["""sudo -n -- sh -c 'id -u '"'"'x'"'"''"""]


def test_waiting_ends_when_the_machine_answers(server: Server) -> None:
    server.gate.clear()
    threading.Timer(1.5, server.gate.set).start()
    ssh.wait(server.target, 30, lambda _: None)
    assert server.connections >= 1


def test_waiting_does_not_hide_another_host_key(server: Server, tmp_path: Path) -> None:
    target = dataclasses.replace(server.target, host_key=public(make_key(tmp_path / "other", "host")))
    with pytest.raises(errors.HostKeyMismatch):
        ssh.wait(target, 30, lambda _: None)


def test_a_cancel_ends_the_wait(server: Server) -> None:
    cancelled = threading.Event()
    cancelled.set()
    server.gate.clear()
    with pytest.raises(errors.Cancelled):
        ssh.wait(dataclasses.replace(server.target, port=1), 30, lambda _: None, cancelled)


class _Hello(Handler):
    def do_GET(self) -> None:
        self.reply(200, b"hello" * 100_000)


@pytest.fixture
def service() -> Iterator[int]:
    """The port of a web server on the loopback of the SSH server."""
    web = LoopbackServer(_Hello)
    yield web.server_port
    web.close()


def test_a_forwarded_port_reaches_the_service_again_and_again(server: Server, service: int) -> None:
    with ssh.connect(server.target) as connection, connection.forward(service) as port:
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert len(answer.read()) == 500_000


def test_a_port_forward_leaves_no_listener_and_no_thread(server: Server, service: int) -> None:
    with ssh.connect(server.target) as connection:
        before = {thread.name for thread in threading.enumerate()}
        with connection.forward(service) as port:
            lingering = socket.create_connection(("127.0.0.1", port))
            lingering.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert lingering.recv(1)
        with lingering:
            while lingering.recv(1 << 16):
                pass
        assert not {thread.name for thread in threading.enumerate() if thread.name == "forward"} - before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_the_connection_outlives_clients_that_hang_up_in_the_middle_of_an_answer(server: Server, service: int) -> None:
    with ssh.connect(server.target) as connection:
        with connection.forward(service) as port:
            for _ in range(60):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert client.recv(1)
        assert connection.run("echo still here").stdout == "still here\n"


def test_a_taken_local_port_is_reported(server: Server) -> None:
    other = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    with other, ssh.connect(server.target) as connection:
        port = other.server_address[1]
        error = pytest.raises(errors.FleetError, match=f"port {port} of this machine is taken")
        with error, connection.forward(1, local=port):
            pass


def behind(bastion: Server, server: Server) -> ssh.Target:
    """Return the server as reached through the bastion."""
    return dataclasses.replace(server.target, bastion=dataclasses.replace(bastion.target, name="glm-1.bastion"))


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Server]:
    """A second server, with keys of its own."""
    (tmp_path / "bastion").mkdir()
    server = Server(tmp_path / "bastion")
    yield server
    server.close()


def test_a_connection_goes_through_the_bastion_each_with_its_own_key(bastion: Server, server: Server) -> None:
    with ssh.connect(behind(bastion, server)) as connection:
        assert connection.run("echo $((6 * 7))").stdout == "42\n"
    assert (bastion.connections, server.connections) == (1, 1)
    assert bastion.commands == []


def test_the_inputs_of_a_node_with_a_bastion_are_its_target(bastion: Server, server: Server) -> None:
    target = behind(bastion, server)
    assert ssh.Target.from_inputs(dataclasses.asdict(target)) == target


def test_a_bastion_with_another_key_is_refused_before_a_connection_to_the_machine(
    bastion: Server, server: Server
) -> None:
    target = behind(bastion, server)
    assert target.bastion
    wrong = dataclasses.replace(target, bastion=dataclasses.replace(target.bastion, host_key=server.target.host_key))
    with pytest.raises(errors.HostKeyMismatch, match=r"another host key") as caught, ssh.connect(wrong):
        pass
    assert str(caught.value).startswith("glm-1.bastion: connect to ")
    assert server.connections == 0


def test_a_message_about_a_bastion_that_is_down_names_the_bastion(bastion: Server, server: Server) -> None:
    target = behind(bastion, server)
    bastion.close()
    with pytest.raises(errors.Unreachable, match="connection refused") as caught, ssh.connect(target):
        pass
    assert str(caught.value).startswith("glm-1.bastion: connect to ")


def test_a_message_about_a_machine_that_the_bastion_cannot_reach_has_the_jump_host(
    bastion: Server, server: Server
) -> None:
    target = behind(bastion, server)
    server.close()
    with pytest.raises(errors.Unreachable) as caught, ssh.connect(target):
        pass
    assert target.bastion
    assert str(caught.value) == (
        f"glm-1: connect to {target.where}: its bastion {target.bastion.where} cannot reach it: connect failed\n"
        "  wanted: an SSH server that lets us in\n"
        f"  next:   ssh -J {target.bastion.where} -p {target.port} root@127.0.0.1 true"
    )
