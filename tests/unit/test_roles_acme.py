"""roles/gateway/files/acme-control: when it asks an ACME server, what it makes of the server's words, which certificate HAProxy gets.

The machine is a folder; dehydrated and systemctl are stand-ins. tests/machine/test_acme.py has the real ones, and Pebble.
"""

import http.server
import importlib.machinery
import importlib.util
import json
import os
import socket
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import certificates
from tests.support import gateway_pki, programs

SCRIPT = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "acme-control"
NAME, MORE = "glm.example", "glm2.example"
SERVER = "https://acme.example/directory"
OWN, ACME = gateway_pki.authority("the stack's own"), gateway_pki.authority("an ACME server's")


class Machine:
    """A gateway as acme-control sees it: `script` is the program, `asked` has what it made dehydrated do."""

    def __init__(self, root: Path, script: types.ModuleType) -> None:
        self.root, self.script, self.asked = root, script, list[str]()
        self.answer: str | Exception = ACME.sign(NAME, gateway_pki.SERVER)
        self.silent: list[str] = []
        self.own = self.file("etc/fleet/gateway/server.pem", OWN.sign(NAME, gateway_pki.SERVER))
        (root / "etc/fleet/gateway/acme").mkdir()
        (root / "var/lib/fleet-acme").mkdir(parents=True)
        self.file("etc/fleet/acme/account.pem", "a key")
        self.settle(NAME)
        os.utime(script.SETTINGS, (0, 0))

    def file(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def settle(self, *names: str, server: str = SERVER) -> None:
        acme = {"server": server, "contact": "", "names": list(names), "thumbprint": "T" * 43}
        self.file("etc/fleet/acme/settings.json", json.dumps(acme))

    def ask(self) -> str:
        """Return why it fails, or "" where it does not."""
        try:
            self.script.ask()
        except SystemExit as end:
            return str(end)
        return ""

    @property
    def served(self) -> str:
        return str(self.script.SERVED.read_text())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("ACME_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("ACME_PATIENCE", "0")
    loader = importlib.machinery.SourceFileLoader("acme_control", str(SCRIPT))
    spec = importlib.util.spec_from_loader("acme_control", loader)
    assert spec
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(script)
    machine = Machine(tmp_path / "root", script)

    def dehydrated(*arguments: str) -> None:
        machine.asked.append(arguments[0])
        if isinstance(machine.answer, Exception):
            raise machine.answer
        folder = script.WORK / "certs" / "gateway"
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = machine.answer.split("-----BEGIN PRIVATE KEY", 1)
        (folder / "fullchain.pem").write_text(chain)
        (folder / "privkey.pem").write_text(f"-----BEGIN PRIVATE KEY{key}")

    monkeypatch.setattr(script, "dehydrated", dehydrated)
    monkeypatch.setattr(script, "silent", lambda _: machine.silent)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    programs.write_program(tmp_path / "bin" / "systemctl", 'echo "$*" >>$ACME_ROOT/systemctl')
    return machine


REGISTER, SIGN = "--register", "--cron"


def test_a_certificate_that_holds_is_not_asked_for_again(machine: Machine) -> None:
    assert (machine.ask(), machine.ask()) == ("", "")
    assert machine.asked == [REGISTER, SIGN]
    assert machine.script.CERTIFICATE.stat().st_mode & 0o777 == 0o600
    assert not machine.script.WORK.exists(), "the work folder has keys"


@pytest.mark.parametrize(("days", "asks"), [(31, False), (29, True), (-1, True)])
def test_a_third_of_its_time_before_its_end_a_certificate_is_renewed(machine: Machine, days: int, asks: bool) -> None:
    machine.file("var/lib/fleet-acme/certificate.pem", aged(days))
    machine.file(
        "var/lib/fleet-acme/last.json", json.dumps({"server": SERVER, "asked": 1, "seen": "", "answered": True})
    )
    assert machine.ask() == ""
    assert bool(machine.asked) is asks


def aged(left: int) -> str:
    """Return a certificate for 90 days with so many left."""
    at = certificates.now() - (90 - left) * gateway_pki.DAY
    return certificates.issue(certificates.Wanted("server", NAME, (NAME,)), *SIGNER, at)


SIGNER = certificates.new_authority("an ACME server's", certificates.now() - 100 * gateway_pki.DAY)


def test_other_names_and_another_server_are_asked_for_at_once(machine: Machine) -> None:
    machine.ask()
    machine.answer = ACME.sign(NAME, gateway_pki.SERVER, NAME, MORE)
    machine.settle(NAME, MORE)
    assert (machine.ask(), machine.asked) == ("", [REGISTER, SIGN] * 2)
    machine.settle(NAME, MORE, server="letsencrypt")
    assert (machine.ask(), machine.asked) == ("", [REGISTER, SIGN] * 3)


def test_after_a_failure_the_server_has_an_hour_unless_something_changed(machine: Machine) -> None:
    machine.answer, machine.silent = machine.script.Refused("too many"), [f"{NAME} has no address here"]
    assert machine.ask() == f"too many; {NAME} has no address here"
    assert machine.ask() == f"not asked again within the hour: too many; {NAME} has no address here"
    assert machine.asked == [REGISTER]
    machine.silent = []
    assert machine.ask() == "too many", "the name answers now"
    assert machine.ask().startswith("not asked again")
    os.utime(machine.script.SETTINGS)
    assert machine.ask() == "too many", "somebody ran `pulumi up`"
    assert machine.asked == [REGISTER] * 3
    record = machine.script.last()
    machine.file("var/lib/fleet-acme/last.json", json.dumps({**record, "asked": record["asked"] - 3601}))
    os.utime(machine.script.SETTINGS, (0, 0))
    assert machine.ask() == "too many", "an hour has passed"


def test_a_machine_that_cannot_reach_its_own_public_address_asks_all_the_same(machine: Machine) -> None:
    machine.silent = [f"{NAME} at 192.0.2.1, port 80: timed out"]
    assert (machine.ask(), machine.asked) == ("", [REGISTER, SIGN])


def test_a_certificate_for_other_names_or_without_its_key_is_not_taken(machine: Machine) -> None:
    refusal = "the ACME server sent a certificate for other names, or none"
    machine.answer = ACME.sign(MORE, gateway_pki.SERVER)
    assert machine.ask() == refusal
    right, other = (ACME.sign(NAME, gateway_pki.SERVER) for _ in range(2))
    begin = "-----BEGIN PRIVATE KEY"
    os.utime(machine.script.SETTINGS)
    machine.answer = right.split(begin)[0] + begin + other.split(begin)[1]
    assert machine.ask() == refusal
    assert not machine.script.CERTIFICATE.exists()


ESCAPES = "\x1b[2J\u202e{{ lookup('pipe', 'id') }}\r\n"
OUTPUTS = {
    'ERROR: Challenge is invalid! (returned: invalid) (result: ["error","detail"]\t"no \\"A\\" record"\n["status"]\t"invalid")': 'no "A" record',
    '  + ERROR: An error occurred (Status 429)\n\nDetails:\n{\n  "type": "urn", "detail": "too many certificates"\n}\nERROR: \n': "too many certificates",
    "ERROR: Problem connecting to server (get for https://x; curl returned with 60)": "Problem connecting to server (get for https://x; curl returned with 60)",
    f'"detail": "{ESCAPES}"': "[2J lookup('pipe', 'id')",
    f'"detail": "{"x" * 100_000}"': f"{'x' * 500} ...",
    "\n\n+ the last words\n": "+ the last words",
    "": "dehydrated says nothing",
}


@pytest.mark.parametrize("output", OUTPUTS, ids=range(len(OUTPUTS)))
def test_of_the_server_s_words_one_plain_line_stays(machine: Machine, output: str) -> None:
    assert machine.script.reason(output) == OUTPUTS[output]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        "null",
        f'{{"asked": {10**400}}}',
        '{"asked": "x", "seen": 5}',
        '{"asked": NaN, "seen": ["{{ x }}"]}',
    ],
)
def test_a_spoiled_record_of_the_last_ask_is_none(machine: Machine, content: str) -> None:
    machine.file("var/lib/fleet-acme/last.json", content)
    record = machine.script.last()
    assert (record["server"], record["answered"]) == ("", False)
    assert "{" not in record["seen"]
    assert (machine.ask(), machine.asked) == ("", [REGISTER, SIGN])


def test_each_address_of_each_name_must_answer_as_a_gateway(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is a stand-in, the servers are real: one answers as HAProxy does, one is of somebody else, one is not there."""
    monkeypatch.undo()  # of the stand-in for `silent`
    answers = {"127.0.0.1": "{token}." + "T" * 43, "127.0.0.2": "<html>", "127.0.0.3": ""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.path.removeprefix("/.well-known/acme-challenge/")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[str(self.server.server_address[0])].replace("{token}", token).encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as right:
        port = right.server_address[1]
        with http.server.HTTPServer(("127.0.0.2", port), Handler) as wrong:
            for server in (right, wrong):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            machine.script.PORT = port

            real = socket.getaddrinfo

            def resolve(name: str, *more: Any, **options: Any) -> list[Any]:
                if name == MORE:
                    raise OSError(-2, "Name or service not known")
                names = answers if name == NAME else [name]
                return [entry for address in names for entry in real(address, *more, **options)]

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            reported = machine.script.silent({"names": [NAME, MORE], "thumbprint": "T" * 43})
            for server in (right, wrong):
                server.shutdown()
    assert reported == [
        f"{NAME} at 127.0.0.2, port {port}: 200, not by a gateway of this stack",
        f"{NAME} at 127.0.0.3, port {port}: [Errno 111] Connection refused",
        f"{MORE} has no address here: Name or service not known",
    ]


# --- as root


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[None]:
    """Let files belong to the user of the tests."""
    monkeypatch.setattr(machine.script.os, "geteuid", lambda: 1000)
    return


Installs = Callable[[], bool]


@pytest.mark.usefixtures("group")
def test_until_acme_gives_one_the_gateway_has_the_certificate_of_the_stack_s_authority(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (machine.script.install(reload=False), machine.served) == (True, machine.own.read_text())
    assert machine.script.install(reload=False) is False
    machine.script.show(changed=False)
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown == {"changed": False, "by": "authority", "ends": shown["ends"], "right": False, "seen": ""}
    machine.own.write_text(OWN.sign(NAME, gateway_pki.SERVER))
    assert (machine.script.install(reload=False), machine.served) == (True, machine.own.read_text())


@pytest.mark.usefixtures("group")
def test_a_new_certificate_reloads_the_gateway_once(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ask()
    assert machine.script.install(reload=True) is True
    assert machine.served == machine.script.CERTIFICATE.read_text()
    assert machine.script.SERVED.stat().st_mode & 0o777 == 0o640
    assert machine.script.install(reload=True) is False
    calls = (machine.root / "systemctl").read_text().splitlines()
    assert calls == ["is-active --quiet fleet-gateway", "reload fleet-gateway"]
    machine.script.show(changed=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["by"], shown["right"], shown["seen"]) == ("acme", True, "")


@pytest.mark.usefixtures("group")
def test_a_certificate_that_haproxy_refuses_is_taken_back(machine: Machine, tmp_path: Path) -> None:
    machine.script.install(reload=False)
    machine.ask()
    programs.write_program(tmp_path / "bin" / "systemctl", '[ "$1" = is-active ] || { echo "it broke" >&2; exit 1; }')
    with pytest.raises(SystemExit, match="it broke; the gateway serves on with the certificate that it had"):
        machine.script.install(reload=True)
    assert machine.served == machine.own.read_text()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("kind", ["ended", "for another name", "no certificate", "a link", "a pipe", "a folder"])
def test_root_takes_only_a_plain_file_with_a_certificate_that_holds(machine: Machine, kind: str) -> None:
    file = machine.script.CERTIFICATE
    match kind:
        case "ended":
            file.write_text(aged(-1))
        case "for another name":
            file.write_text(ACME.sign(MORE, gateway_pki.SERVER))
        case "no certificate":
            file.write_text("x" * 100_000)
        case "a link":
            secret = machine.file("etc/secret.pem", ACME.sign(NAME, gateway_pki.SERVER))
            file.symlink_to(secret)
        case "a pipe":
            os.mkfifo(file)
        case _:
            file.mkdir()
    machine.script.install(reload=False)
    assert machine.served == machine.own.read_text()


@pytest.mark.usefixtures("group")
def test_show_reports_a_renewal_that_fails_before_the_certificate_ends(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    for left, right in ((29, True), (21, False)):
        machine.file("var/lib/fleet-acme/certificate.pem", aged(left))
        machine.file("var/lib/fleet-acme/last.json", json.dumps({"server": SERVER, "asked": 1, "seen": "too many"}))
        machine.script.install(reload=False)
        machine.script.show(changed=False)
        shown = json.loads(capsys.readouterr().out)
        assert (shown["by"], shown["right"], shown["seen"]) == ("acme", right, "too many")
