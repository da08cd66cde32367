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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.ssh import connection as ssh_connection
from fleet.ssh import handshake, reach
from tests.support.ssh_server import Server, _key


def test_the_pinned_key_is_accepted(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        assert connection.run("echo $((6 * 7))").stdout == "42\n"


def test_another_host_key_is_refused_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = _key(tmp_path / "other", "host")
    target = dataclasses.replace(server.target, host_key=f"{other.get_name()} {other.get_base64()}")
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
def test_nothing_is_connected_without_a_pinned_key(server: Server, key: str) -> None:
    with pytest.raises(errors.HostKeyMismatch), ssh.connect(dataclasses.replace(server.target, host_key=key)):
        pass
    assert server.connections == 0


def test_a_machine_that_stays_silent_is_given_up_in_time(server: Server) -> None:
    server.gate.clear()
    started = time.monotonic()
    with pytest.raises(errors.Unreachable, match="no SSH handshake"), ssh.connect(server.target, timeout=1):
        pass
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (b"", r"connected, but the connection was closed before the SSH banner, after 0\.\d s"),
        (b"HTTP/1.1 400 Bad Request\r\n" * 100, "connected, but what answers there is no SSH server"),
        (b"SSH-2.0-x\r\n", r"connected, but the connection was closed during the SSH handshake, after 0\.\d s"),
    ],
)
def test_a_connection_that_is_closed_early_is_no_timeout(server: Server, words: bytes, seen: str) -> None:
    """As sshd does above its MaxStartups, as a proxy of HTTP does, as a node that goes down does."""

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # what lies unread would make it a reset, whose words may be lost on the way
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        answered = pool.submit(answer)
        target = dataclasses.replace(server.target, port=listener.getsockname()[1])
        with pytest.raises(errors.Unreachable) as caught, ssh.connect(target, timeout=10):
            pass
        answered.result(10)
    assert re.fullmatch(seen, caught.value.seen)


@pytest.mark.slow
def test_the_wait_for_others_handshakes_is_not_the_machine_s_fault(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than may shake hands at once: its time begins when its turn has come."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(reach, "HANDSHAKES", places)
    with ThreadPoolExecutor() as pool:
        with places:
            late = pool.submit(lambda: reached(server.target, timeout=3))
            assert server.arrived.wait(10)
            assert futures.wait([late], timeout=3.5).not_done, "it waits longer than a machine may take"
        assert late.result()


def reached(target: ssh.Target, timeout: float) -> bool:
    with ssh.connect(target, timeout) as connection:
        return connection.run("true").rc == 0


def test_a_closed_port_is_told_at_once(server: Server) -> None:
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
    (tmp_path / "stranger").mkdir()
    _key(tmp_path / "stranger", "user")
    target = dataclasses.replace(server.target, identity=str(tmp_path / "stranger" / "user"))
    with pytest.raises(errors.LoginRefused), ssh.connect(target):
        pass


@pytest.fixture
def agent(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent that holds the right key."""
    with tempfile.TemporaryDirectory() as folder:  # a short path: a socket lies in it
        path = f"{folder}/agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout
            running.stdout.readline()  # it says where it listens once it does
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            subprocess.run(["ssh-add", "-q", str(server.identity)], check=True)
            yield
            running.terminate()


@pytest.mark.usefixtures("agent")
def test_without_an_identity_the_agent_s_keys_are_tried(server: Server) -> None:
    with ssh.connect(dataclasses.replace(server.target, identity="")) as connection:
        assert connection.run("true").rc == 0


@pytest.mark.usefixtures("agent")
def test_an_identity_with_a_passphrase_is_left_to_the_agent(server: Server, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(locked)], check=True)
    with ssh.connect(dataclasses.replace(server.target, identity=str(locked))) as connection:
        assert connection.run("true").rc == 0


def test_an_identity_that_is_no_file_is_told(server: Server) -> None:
    nowhere = dataclasses.replace(server.target, identity="/nowhere/id")
    with pytest.raises(errors.LoginRefused, match="there is no file /nowhere/id"), ssh.connect(nowhere):
        pass


def test_a_command_gives_both_streams_and_its_exit_code(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        assert connection.run("cat; echo no >&2; exit 3", stdin="yes") == ssh.Result(3, "yes", "no\n")


def test_a_command_that_does_not_end_is_told_in_time(server: Server) -> None:
    with ssh.connect(server.target) as connection, pytest.raises(errors.CommandFailed, match=r"no end within 0\.5 s"):
        connection.run("sleep 10", timeout=0.5)


def test_a_connection_that_breaks_is_unreachable(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        server.close()
        with pytest.raises(errors.Unreachable, match="the connection broke"):
            connection.run("true")


def _asks_through_a_port_of_a_server_that_goes(server: Server) -> None:
    with ssh.connect(server.target) as connection, connection.forward(8000) as port:
        server.close()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10)


def test_a_connection_that_breaks_while_a_port_is_forwarded_is_unreachable(server: Server) -> None:
    with pytest.raises(errors.Unreachable, match="the connection broke") as caught:
        _asks_through_a_port_of_a_server_that_goes(server)
    assert caught.value.doing == "forward port 8000"


def test_lines_come_while_the_command_runs(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ssh.connect(server.target) as connection:
        lines = connection.lines(f"cat; until [ -e {gate} ]; do sleep 0.05; done; echo second", stdin="first\n")
        assert next(lines) == "first\n"
        gate.touch()
        assert list(lines) == ["second\n"]


def test_a_command_that_says_nothing_any_more_is_told_in_time(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        lines = connection.lines("echo first; exec sleep 60", silence=0.5)
        assert next(lines) == "first\n"
        with pytest.raises(errors.CommandFailed, match=r"no output for 0\.5 s"):
            next(lines)


def test_a_command_that_prints_too_much_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_connection, "MOST", 1 << 20)
    started = time.monotonic()
    with ssh.connect(server.target) as connection:
        for stream in (1, 2):
            with pytest.raises(errors.CommandFailed, match="more than 1 MiB of output"):
                connection.run(f"yes >&{stream}", timeout=30)
    assert time.monotonic() - started < 20


def test_the_connection_outlives_commands_that_still_print_when_they_are_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_connection, "MOST", 1 << 18)
    with ssh.connect(server.target) as connection:
        for _ in range(30):
            with pytest.raises(errors.CommandFailed, match="output"):
                connection.run("yes", timeout=30)
        assert connection.run("echo still here").stdout == "still here\n"


def test_a_command_that_never_stops_printing_ends_in_time(server: Server) -> None:
    slowly = "while :; do echo; sleep 0.01; done"
    with ssh.connect(server.target) as connection, pytest.raises(errors.CommandFailed, match=r"no end within 0\.5 s"):
        connection.run(slowly, timeout=0.5)


def test_a_line_that_is_too_long_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_connection, "LONGEST", 1 << 20)
    with ssh.connect(server.target) as connection:
        lines = connection.lines("echo first; yes | tr -d '\\n'", silence=30)
        assert next(lines) == "first\n"
        with pytest.raises(errors.CommandFailed, match="a line of more than 1 MiB"):
            next(lines)


def test_a_command_that_ends_badly_after_some_lines_is_told_by_its_last_words(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        lines = connection.lines("echo first; echo no disk >&2; exit 3")
        assert next(lines) == "first\n"
        with pytest.raises(errors.CommandFailed, match="no disk"):
            next(lines)


def test_a_connection_that_breaks_between_two_lines_is_unreachable(server: Server) -> None:
    with ssh.connect(server.target) as connection:
        lines = connection.lines("echo first; exec sleep 60")
        assert next(lines) == "first\n"
        server.close()
        with pytest.raises(errors.Unreachable, match="the connection broke"):
            next(lines)


def test_a_command_runs_through_sudo_without_a_password_prompt_when_become(server: Server) -> None:
    with ssh.connect(dataclasses.replace(server.target, become=True)) as connection:
        connection.run("id -u 'x'")
    assert server.commands == ["""sudo -n -- sh -c 'id -u '"'"'x'"'"''"""]


def test_waiting_ends_when_the_machine_answers(server: Server) -> None:
    notes: list[str] = []
    silent = dataclasses.replace(server.target)
    server.gate.clear()
    threading.Timer(1.5, server.gate.set).start()
    ssh.wait(silent, 30, notes.append)
    assert server.connections >= 1


def test_waiting_does_not_hide_another_host_key(server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = _key(tmp_path / "other", "host")
    target = dataclasses.replace(server.target, host_key=f"{other.get_name()} {other.get_base64()}")
    with pytest.raises(errors.HostKeyMismatch):
        ssh.wait(target, 30, lambda _: None)


def test_waiting_can_be_cancelled(server: Server) -> None:
    cancelled = threading.Event()
    cancelled.set()
    server.gate.clear()
    with pytest.raises(errors.Cancelled):
        ssh.wait(dataclasses.replace(server.target, port=1), 30, lambda _: None, cancelled)


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello" * 100_000)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[int]:
    """A web server on the loopback of what the SSH server reaches; yields its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


def test_a_forwarded_port_reaches_the_service_again_and_again(server: Server, service: int) -> None:
    with ssh.connect(server.target) as connection, connection.forward(service) as port:
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert len(answer.read()) == 500_000


def test_forwarding_leaves_no_listener_and_no_thread(server: Server, service: int) -> None:
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


def test_a_taken_local_port_is_told(server: Server) -> None:
    taker = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    with taker, ssh.connect(server.target) as connection:
        port = taker.server_address[1]
        taken = pytest.raises(errors.FleetError, match=f"port {port} of this machine is taken")
        with taken, connection.forward(1, local=port):
            pass


def behind(bastion: Server, server: Server) -> ssh.Target:
    """How to reach the server through the bastion."""
    return dataclasses.replace(server.target, bastion=dataclasses.replace(bastion.target, name="glm-1.bastion"))


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Server]:
    """A second server, with keys of its own."""
    (tmp_path / "bastion").mkdir()
    server = Server(tmp_path / "bastion")
    yield server
    server.close()


def test_a_machine_is_reached_through_its_bastion_each_with_its_own_key(bastion: Server, server: Server) -> None:
    with ssh.connect(behind(bastion, server)) as connection:
        assert connection.run("echo $((6 * 7))").stdout == "42\n"
    assert (bastion.connections, server.connections) == (1, 1)
    assert bastion.commands == []


def test_inputs_of_a_node_with_a_bastion_are_read_back_as_they_were(bastion: Server, server: Server) -> None:
    target = behind(bastion, server)
    assert ssh.Target.from_inputs(dataclasses.asdict(target)) == target


def test_a_bastion_with_another_key_is_refused_before_anything_is_sent_to_the_machine(
    bastion: Server, server: Server
) -> None:
    target = behind(bastion, server)
    assert target.bastion
    wrong = dataclasses.replace(target, bastion=dataclasses.replace(target.bastion, host_key=server.target.host_key))
    with pytest.raises(errors.HostKeyMismatch, match=r"another host key") as caught, ssh.connect(wrong):
        pass
    assert str(caught.value).startswith("glm-1.bastion: connect to ")
    assert server.connections == 0


def test_a_bastion_that_is_down_is_told_as_the_bastion(bastion: Server, server: Server) -> None:
    target = behind(bastion, server)
    bastion.close()
    with pytest.raises(errors.Unreachable, match="connection refused") as caught, ssh.connect(target):
        pass
    assert str(caught.value).startswith("glm-1.bastion: connect to ")


def test_a_machine_that_the_bastion_does_not_reach_is_told_with_the_way(bastion: Server, server: Server) -> None:
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
