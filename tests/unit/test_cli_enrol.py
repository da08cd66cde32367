"""`fleet enrol` shows the host keys that answer beside the expected ones, and pins one after a yes, or when it is the expected one.

The machines are SSH servers of OpenSSH's own keys in this process (tests/support/ssh_server.py), on the loopback.
"""

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.resolver
import dns.rrset
import pytest
import yaml
from click import testing

from fleet import errors, ssh
from fleet.cli import enrol, main, stack_edit
from fleet.ssh.host_keys import Key
from tests.support.ssh_server import Server

ROOT = Path(__file__).resolve().parents[2]
STACK = """\
# Our machines.
config:
  glm-fleet:nodes:
    source: ssh
    defaults: {{user: root, gpus: 8}} # all alike
    machines:
      # The old one.
      prod-1: {{address: 127.0.0.1, port: {port}, host_key: "{key}"}}
      prod-2: # with words of its own
        address: 127.0.0.1
        port: {port}
  glm-fleet:parallel: "4"
"""
ANOTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "keys").mkdir()
    server = Server(tmp_path / "keys")
    yield server
    server.close()


@pytest.fixture
def file(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack file `test` with two machines, both of them the server; prod-1 has another machine's key."""
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stacks" / "Pulumi.test.yaml"
    path.parent.mkdir()
    path.write_text(STACK.format(port=server.target.port, key=ANOTHER))
    return path


def run(*arguments: str, stdin: str = "") -> testing.Result:
    """Run `fleet enrol` on the stack `test`."""
    return testing.CliRunner().invoke(main.main, ["enrol", "-s", "test", *arguments], input=stdin)


def key_of(server: Server) -> Key:
    """Return the server's host key."""
    return Key.parse(server.target.host_key)


def test_enrol_shows_what_answers_and_writes_nothing_without_a_yes(file: Path, server: Server) -> None:
    before = file.read_text()
    result = run("prod-1", "prod-2", stdin="n\n")
    assert result.exit_code == 1, result.output
    row = f"prod-2  127.0.0.1:{server.target.port}  ssh-ed25519  {key_of(server).fingerprint}  to be pinned"
    assert row in result.output
    assert result.output.endswith("nothing was written\n")
    assert file.read_text() == before


def test_after_a_yes_the_file_has_the_key_and_every_other_line_is_unchanged(file: Path, server: Server) -> None:
    before = file.read_text()
    result = run("prod-1", "prod-2", stdin="y\n")
    assert result.exit_code == 0, result.output
    port = f"        port: {server.target.port}\n"
    after = before.replace(ANOTHER, str(key_of(server)))
    assert file.read_text() == after.replace(port, f'{port}        host_key: "{key_of(server)}"\n')
    assert run("prod-1", "prod-2").output.endswith("stacks/Pulumi.test.yaml has them already\n")


def test_enrol_pins_an_expected_fingerprint_without_a_question(file: Path, server: Server) -> None:
    result = run("prod-1", "--expect", key_of(server).fingerprint)
    assert result.exit_code == 0, result.output
    assert str(key_of(server)) in file.read_text()


def test_another_key_than_the_expected_one_is_refused(file: Path, server: Server) -> None:
    before = file.read_text()
    result = run("prod-1", "--expect", Key.parse(ANOTHER).fingerprint)
    assert result.exit_code == 1
    assert result.output == (
        f"prod-1 answered\nprod-1: compare the host keys of 127.0.0.1:{server.target.port}: ssh-ed25519 {key_of(server).fingerprint}\n"
        f"  wanted: expected: {Key.parse(ANOTHER).fingerprint}\n"
        "  next:   find out which machine answers there; nothing was written\n"
    )
    assert file.read_text() == before


def test_enrol_adds_a_new_machine_with_its_address(file: Path, server: Server) -> None:
    refusal = run("prod-9")
    assert refusal.exit_code == 1 and "prod-9=ADDRESS to add it" in refusal.output
    file.write_text(file.read_text().replace("gpus: 8}", f"gpus: 8, port: {server.target.port}}}"))
    result = run("prod-9=127.0.0.1", "--expect", key_of(server).fingerprint)
    assert result.exit_code == 0, result.output
    assert f'      prod-9: {{address: 127.0.0.1, host_key: "{key_of(server)}"}}\n' in file.read_text()


@pytest.mark.parametrize("hashed", [False, True])
def test_enrol_shows_the_key_of_a_known_hosts_file_and_refuses_another_key(
    file: Path, server: Server, tmp_path: Path, hashed: bool
) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"# comment\n[127.0.0.1]:{server.target.port} {key_of(server)}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known_hosts], check=True, capture_output=True)
    result = run("prod-1", "--known-hosts", str(known_hosts), stdin="y\n")
    assert result.exit_code == 0, result.output
    assert f"as in {known_hosts}, to be pinned" in result.output
    known_hosts.write_text(f"prod-1 {ANOTHER}\n")
    result = run("prod-1", "--known-hosts", str(known_hosts))
    assert result.exit_code == 1
    assert f"wanted: {known_hosts} has {Key.parse(ANOTHER).fingerprint}" in result.output


def test_a_machine_that_does_not_answer_stops_the_verb(file: Path, server: Server) -> None:
    where = server.target.where
    server.close()
    result = run("prod-1", "prod-2")
    assert result.exit_code == 1
    assert f"prod-1: connect to {where}: connection refused" in result.output


def test_enrol_refuses_machines_of_other_sources(file: Path) -> None:
    file.write_text(file.read_text().replace("source: ssh", "source: lab"))
    result = run("prod-1")
    assert result.exit_code == 1 and "the other sources make the host keys of their machines" in result.output


def test_a_machine_in_a_separate_file_gets_its_key_there(file: Path, server: Server) -> None:
    machines, port = file.parent / "machines.yaml", server.target.port
    machines.write_text(f"# by hand\nprod-1: {{address: 127.0.0.1, port: {port}}}\n")
    own = {"source": "ssh", "machines": {"prod-7": {"address": "127.0.0.1", "port": port}}}
    nodes = [{"source": "lab"}, {"source": "ssh", "machines": "machines.yaml"}, own]
    file.write_text(yaml.safe_dump({"config": {"glm-fleet:nodes": nodes}}))
    result = run("prod-1", "prod-7", stdin="y\n")
    assert result.exit_code == 0, result.output
    assert "\nstacks/machines.yaml: pinned prod-1, prod-7; `git diff stacks/machines.yaml` shows it\n" in result.output
    line = f'prod-1: {{address: 127.0.0.1, port: {port}, host_key: "{key_of(server)}"}}'
    assert machines.read_text() == f"# by hand\n{line}\n"
    nodes = yaml.safe_load(file.read_text())["config"]["glm-fleet:nodes"]
    assert nodes[2]["machines"]["prod-7"]["host_key"] == str(key_of(server))


def test_enrol_shows_a_key_of_every_type_and_chooses_the_first(tmp_path: Path) -> None:
    keys = [Key("ssh-rsa", b"r"), Key("ssh-ed25519", b"e")]
    answer = enrol._answer("prod-1", ssh.Target("prod-1", "192.0.2.11"), keys)
    enrol.choose(answer, [], {})
    assert answer.chosen == keys[1]
    assert [row[2] for row in answer.rows()] == ["ssh-ed25519", "ssh-rsa"]
    enrol.choose(answer, [], {"DNS": [keys[0].fingerprint]})  # the one that DNS has, too
    assert answer.chosen == keys[0]
    with pytest.raises(errors.HostKeyMismatch, match=r"ssh-ed25519 SHA256:"):
        enrol.choose(answer, [], {"DNS": ["SHA256:other"]})


@pytest.mark.parametrize("stack", ["dev", "staging", "prod", "dr"])
def test_writing_a_stack_file_without_a_change_keeps_its_text(stack: str, tmp_path: Path) -> None:
    path = tmp_path / f"Pulumi.{stack}.yaml"
    path.write_text((ROOT / "stacks" / path.name).read_text())
    stack_edit.Document(path).write()
    assert path.read_text() == (ROOT / "stacks" / path.name).read_text()


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """SSHFP records with which a name server on the loopback answers every question."""
    records: list[str] = []
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            wire, client = listener.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            answer = dns.message.make_response(question)
            if records:
                answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "SSHFP", *records))
            listener.sendto(answer.to_wire(), client)

    thread = threading.Thread(target=serve)
    thread.start()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], listener.getsockname()[1]
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    yield records
    listener.sendto(b"", listener.getsockname())
    thread.join()
    listener.close()


def test_enrol_shows_the_key_of_dns_and_refuses_another_key(file: Path, server: Server, records: list[str]) -> None:
    right = hashlib.sha256(key_of(server).blob).hexdigest()
    assert "SSHFP" not in run("prod-1", "--sshfp", stdin="n\n").output
    records += [f"4 1 {hashlib.sha1(key_of(server).blob).hexdigest()}", f"4 2 {right}"]
    result = run("prod-1", "--sshfp", stdin="y\n")
    assert result.exit_code == 0 and "as in DNS, to be pinned" in result.output, result.output
    records[:] = [f"4 2 {'ab' * 32}"]
    result = run("prod-1", "--sshfp", stdin="y\n")
    assert result.exit_code == 1 and "wanted: DNS has SHA256:" in result.output
