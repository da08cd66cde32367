"""Host keys that answer are shown beside what is known of them; one is pinned after a yes, or when it is the expected one.

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
    """A stack file `test` of two machines, both of them the server; prod-1 has another machine's key."""
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


def test_what_answers_is_shown_and_nothing_is_written_without_a_yes(file: Path, server: Server) -> None:
    before = file.read_text()
    done = run("prod-1", "prod-2", stdin="n\n")
    assert done.exit_code == 1, done.output
    assert (
        f"prod-2  127.0.0.1:{server.target.port}  ssh-ed25519  {key_of(server).fingerprint}  to be pinned"
        in done.output
    )
    assert done.output.endswith("nothing was written\n")
    assert file.read_text() == before


def test_after_a_yes_the_key_stands_in_the_file_and_every_other_line_as_it_was(file: Path, server: Server) -> None:
    before = file.read_text()
    done = run("prod-1", "prod-2", stdin="y\n")
    assert done.exit_code == 0, done.output
    after = before.replace(ANOTHER, str(key_of(server)))
    after = after.replace(
        f"        port: {server.target.port}\n",
        f'        port: {server.target.port}\n        host_key: "{key_of(server)}"\n',
    )
    assert file.read_text() == after
    assert run("prod-1", "prod-2").output.endswith("stacks/Pulumi.test.yaml has them already\n")


def test_an_expected_fingerprint_is_pinned_without_a_question(file: Path, server: Server) -> None:
    done = run("prod-1", "--expect", key_of(server).fingerprint)
    assert done.exit_code == 0, done.output
    assert str(key_of(server)) in file.read_text()


def test_another_key_than_the_expected_one_is_refused(file: Path, server: Server) -> None:
    before = file.read_text()
    done = run("prod-1", "--expect", Key.parse(ANOTHER).fingerprint)
    assert done.exit_code == 1
    assert done.output == (
        f"prod-1 answered\nprod-1: compare the host keys of 127.0.0.1:{server.target.port}: ssh-ed25519 {key_of(server).fingerprint}\n"
        f"  wanted: expected: {Key.parse(ANOTHER).fingerprint}\n"
        "  next:   find out which machine answers there; nothing was written\n"
    )
    assert file.read_text() == before


def test_a_new_machine_is_added_with_its_address(file: Path, server: Server) -> None:
    stranger = run("prod-9")
    assert stranger.exit_code == 1 and "prod-9=ADDRESS to add it" in stranger.output
    file.write_text(file.read_text().replace("gpus: 8}", f"gpus: 8, port: {server.target.port}}}"))
    done = run("prod-9=127.0.0.1", "--expect", key_of(server).fingerprint)
    assert done.exit_code == 0, done.output
    assert f'      prod-9: {{address: 127.0.0.1, host_key: "{key_of(server)}"}}\n' in file.read_text()


@pytest.mark.parametrize("hashed", [False, True])
def test_what_a_known_hosts_file_says_is_shown_or_refused(
    file: Path, server: Server, tmp_path: Path, hashed: bool
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"# comment\n[127.0.0.1]:{server.target.port} {key_of(server)}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    done = run("prod-1", "--known-hosts", str(known), stdin="y\n")
    assert done.exit_code == 0, done.output
    assert f"as in {known}, to be pinned" in done.output
    known.write_text(f"prod-1 {ANOTHER}\n")
    done = run("prod-1", "--known-hosts", str(known))
    assert done.exit_code == 1
    assert f"wanted: {known} has {Key.parse(ANOTHER).fingerprint}" in done.output


def test_a_machine_that_does_not_answer_stops_all(file: Path, server: Server) -> None:
    where = server.target.where
    server.close()
    done = run("prod-1", "prod-2")
    assert done.exit_code == 1
    assert f"prod-1: connect to {where}: connection refused" in done.output


def test_machines_of_other_sources_are_not_enrolled(file: Path) -> None:
    file.write_text(file.read_text().replace("source: ssh", "source: lab"))
    done = run("prod-1")
    assert done.exit_code == 1 and "the other sources make the host keys of their machines" in done.output


def test_machines_in_a_file_of_their_own_are_pinned_there(file: Path, server: Server) -> None:
    (file.parent / "machines.yaml").write_text(
        f"# by hand\nprod-1: {{address: 127.0.0.1, port: {server.target.port}}}\n"
    )
    here = {"address": "127.0.0.1", "port": server.target.port}
    nodes = [
        {"source": "lab"},
        {"source": "ssh", "machines": "machines.yaml"},
        {"source": "ssh", "machines": {"prod-7": here}},
    ]
    file.write_text(yaml.safe_dump({"config": {"glm-fleet:nodes": nodes}}))
    done = run("prod-1", "prod-7", stdin="y\n")
    assert done.exit_code == 0, done.output
    assert "\nstacks/machines.yaml: pinned prod-1, prod-7; `git diff stacks/machines.yaml` shows it\n" in done.output
    expected = f'{{address: 127.0.0.1, port: {server.target.port}, host_key: "{key_of(server)}"}}'
    assert (file.parent / "machines.yaml").read_text() == f"# by hand\nprod-1: {expected}\n"
    written = yaml.safe_load(file.read_text())["config"]["glm-fleet:nodes"]
    assert written[2]["machines"]["prod-7"]["host_key"] == str(key_of(server))


def test_a_key_of_every_type_is_shown_and_the_first_is_chosen(tmp_path: Path) -> None:
    keys = [Key("ssh-rsa", b"r"), Key("ssh-ed25519", b"e")]
    answer = enrol._answer("prod-1", ssh.Target("prod-1", "192.0.2.11"), keys)
    enrol.choose(answer, [], {})
    assert answer.chosen == keys[1]
    assert [row[2] for row in answer.rows()] == ["ssh-ed25519", "ssh-rsa"]
    enrol.choose(answer, [], {"DNS": [keys[0].fingerprint]})  # the one that somebody else knows, too
    assert answer.chosen == keys[0]
    with pytest.raises(errors.HostKeyMismatch, match=r"ssh-ed25519 SHA256:"):
        enrol.choose(answer, [], {"DNS": ["SHA256:other"]})


@pytest.mark.parametrize("stack", ["dev", "staging", "prod", "dr"])
def test_a_stack_file_that_is_written_again_is_the_same(stack: str, tmp_path: Path) -> None:
    path = tmp_path / f"Pulumi.{stack}.yaml"
    path.write_text((ROOT / "stacks" / path.name).read_text())
    stack_edit.Document(path).write()
    assert path.read_text() == (ROOT / "stacks" / path.name).read_text()


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A name server on the loopback that answers every question with these SSHFP records; with none it says that there are none."""
    told: list[str] = []
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            wire, asker = listener.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            answer = dns.message.make_response(question)
            if told:
                answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "SSHFP", *told))
            listener.sendto(answer.to_wire(), asker)

    thread = threading.Thread(target=serve)
    thread.start()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], listener.getsockname()[1]
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    yield told
    listener.sendto(b"", listener.getsockname())
    thread.join()
    listener.close()


def test_what_dns_says_is_shown_and_another_key_is_refused(file: Path, server: Server, records: list[str]) -> None:
    right = hashlib.sha256(key_of(server).blob).hexdigest()
    assert "SSHFP" not in run("prod-1", "--sshfp", stdin="n\n").output
    records += [f"4 1 {hashlib.sha1(key_of(server).blob).hexdigest()}", f"4 2 {right}"]
    done = run("prod-1", "--sshfp", stdin="y\n")
    assert done.exit_code == 0 and "as in DNS, to be pinned" in done.output, done.output
    records[:] = [f"4 2 {'ab' * 32}"]
    done = run("prod-1", "--sshfp", stdin="y\n")
    assert done.exit_code == 1 and "wanted: DNS has SHA256:" in done.output
