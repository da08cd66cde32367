"""`fleet show` of a stack with a gateway: where the endpoint is, until when its certificates hold, and lines that a client pastes."""

import json
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import certificates
from fleet.cli import endpoint, main
from tests.support.http_server import Handler, LoopbackServer
from tests.support.programs import write_program

GOLDEN = Path(__file__).parent / "golden" / "cli_endpoint"
NAME, MODEL, KEY = "glm.example.com", "zai-org/GLM-4.6V", "glm-a-client-s-key"


def proxy(address: str, *faces: str, ends: str = "2027-02-27", clients: tuple[str, ...] = ("team-a", "team-b")) -> Any:
    """Return the outputs of a Gateway, as the state has them."""
    names = [*(["node"] if "node" in faces else []), *(["client", "server"] if "clients" in faces else [])]
    variables = {"gateway_faces": list(faces), "gateway_clients": {name: {} for name in clients}}
    return {"node": {"address": address}, "vars": variables, "ends": dict.fromkeys(names, ends)}


def outputs(**more: Any) -> dict[str, Any]:
    """Return the outputs of a stack with four machines, two of them gateways, as stack_outputs.outputs does."""
    gateways = {
        "prod-10": proxy("192.0.2.20", "clients"),
        "prod-2": proxy("192.0.2.12", "node", "clients"),
        "prod-1": proxy("192.0.2.11", "node", ends="2027-01-15"),
        "prod-3": proxy("192.0.2.13", "node"),
    }
    own = {"endpoint": f"https://{NAME}/v1", "authority": "a certificate", "authority_ends": "2036-11-26"}
    return {**own, "gateways": gateways, **more}


def of(values: dict[str, Any]) -> endpoint.Endpoint:
    entry = endpoint.of(values)
    assert entry
    return entry


def test_the_report_has_the_endpoint_its_clients_and_the_end_of_each_certificate() -> None:
    entry = of(outputs())
    assert endpoint.report(entry, "prod") + "\n" == (GOLDEN / "report.txt").read_text()
    text = endpoint.paste(entry, "prod", MODEL, endpoint.KEY, resolved=True)
    assert text + "\n" == (GOLDEN / "paste.txt").read_text()


def test_the_lines_of_a_lab_say_where_the_name_is_and_use_the_lab_s_own_key() -> None:
    text = endpoint.paste(of(outputs()), "lab", MODEL, ".pulumi/lab/lab.key", resolved=False)
    assert text + "\n" == (GOLDEN / "paste-in-a-lab.txt").read_text()


def test_clients_of_an_own_certificate_need_no_authority() -> None:
    values = outputs()
    del values["authority"]
    text = endpoint.paste(of(values), "prod", MODEL, endpoint.KEY, resolved=True)
    assert endpoint.CA not in text and "fleet request" in text


def test_the_report_says_which_gateways_have_no_certificate_by_acme_and_why() -> None:
    values = outputs()
    del values["authority"]
    right = {"by": "acme", "ends": "2027-02-14", "right": True, "seen": ""}
    wrong = {"by": "authority", "ends": "2027-02-27", "right": False, "seen": f"{NAME} has no address here"}
    values["gateways"]["prod-2"]["acme"], values["gateways"]["prod-10"]["acme"] = right, wrong
    assert endpoint.report(of(values), "prod") + "\n" == (GOLDEN / "report-by-acme.txt").read_text()


def test_a_stack_without_clients_says_how_one_gets_a_key() -> None:
    values = outputs(gateways={"prod-1": proxy("192.0.2.11", "clients", clients=())})
    assert "clients   none: `fleet key add -s prod NAME > key`, then up" in endpoint.report(of(values), "prod")


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": {}},
        outputs(gateways={}),
        outputs(gateways={"prod-1": proxy("192.0.2.11", "node")}),
        {key: value for key, value in outputs().items() if key != "endpoint"},
    ],
)
def test_without_a_gateway_there_is_no_endpoint(values: dict[str, Any]) -> None:
    assert endpoint.of(values) is None


def test_the_first_failed_update_of_a_gateway_leaves_a_report() -> None:
    """Its state has inputs, and null for each output."""
    values = outputs(gateways={"prod-1": {**proxy("192.0.2.11", "clients"), "ends": None}})
    assert "of the authority" in endpoint.report(of(values), "prod")


def test_the_lines_to_paste_keep_their_words() -> None:
    evil = "x; touch /tmp/y; $(id) `id` 'q'"
    entry = of(outputs(gateways={"prod-1": proxy("::1\n$(id)", "clients"), "prod-2": proxy("2001:db8::1", "clients")}))
    text = endpoint.paste(entry, "la b", evil, "a $(id)/key", resolved=False)
    files, ask = (next(line for line in text.splitlines() if line.startswith(word)) for word in ("eval", "curl"))
    words = shlex.split(files.partition("; ")[2])
    assert words[:7] == ["pulumi", "stack", "output", "authority", "-s", "la b", ">"]
    assert words[-7:] == ["fleet", "request", "bottle-grounding", "--model", evil, ">", "request.json"]
    assert f"{NAME}:443:[2001:db8::1]" in shlex.split(ask.partition(" -H @<")[0]), "an odd address is left out"
    assert "$(cat 'a $(id)/key')" in ask


def test_a_name_that_the_resolver_does_not_have_in_time_counts_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint.resolves("localhost")
    stop = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [stop.wait(30)])
    assert not endpoint.resolves("localhost", 0.05)
    stop.set()

    def unknown(*_: Any) -> None:
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not endpoint.resolves("nobody.example")


class Gateway(LoopbackServer):
    """Answers a chat over TLS, and keeps the path, the key and the body of each request."""

    def __init__(self, certificate: Path) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        super().__init__(_Handler, certificate)


class _Handler(Handler):
    server: Gateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        answer = {"choices": [{"message": {"content": "[[1,2,3,4]]"}}]}
        self.reply(200, json.dumps(answer).encode(), Content_Type="application/json")


# What the snippet uses of the OpenAI library: its settings are from the environment, and its TLS trusts SSL_CERT_FILE.
OPENAI = """\
import json, os, types, urllib.request
def create(model, messages, extra_body):
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "Content-Type": "application/json"}
    body = json.dumps({"model": model, "messages": messages, **extra_body}).encode()
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    return json.load(urllib.request.urlopen(request, timeout=10), object_hook=lambda pairs: types.SimpleNamespace(**pairs))
def OpenAI():
    return types.SimpleNamespace(chat=types.SimpleNamespace(completions=types.SimpleNamespace(create=create)))
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[tuple[Gateway, Path]]:
    """A gateway with a certificate of an own authority, and a client's folder with its key, in which `pulumi` prints the authority."""
    authority, private = certificates.new_authority("a stack", certificates.now())
    wanted = certificates.Wanted("server", NAME, (NAME, "localhost"))
    (tmp_path / "server.pem").write_text(certificates.issue(wanted, authority, private, certificates.now()))
    folder = tmp_path / "a client"
    (folder / "bin").mkdir(parents=True)
    (folder / "authority").write_text(authority)
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "openai.py").write_text(OPENAI)
    write_program(folder / "bin" / "pulumi", f"cat {shlex.quote(str(folder / 'authority'))}")
    write_program(folder / "bin" / "make", "true")
    gateway = Gateway(tmp_path / "server.pem")
    yield gateway, folder
    gateway.close()


@pytest.mark.parametrize("host", [NAME, "localhost"])
def test_both_lines_work_as_pasted_and_check_the_certificate(client: tuple[Gateway, Path], host: str) -> None:
    gateway, folder = client
    entry = of(
        outputs(endpoint=f"https://{host}:{gateway.server_port}/v1", gateways={"prod-1": proxy("127.0.0.1", "clients")})
    )
    text = endpoint.paste(entry, "prod", MODEL, endpoint.KEY, resolved=host != NAME)
    files, curl, snippet = text.split("\n\n")
    environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}

    def paste(lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", lines], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    assert paste(files).returncode == 0
    assert json.loads(paste(curl).stdout)["choices"], "curl"
    if host != NAME:  # the library has no --resolve
        assert paste(snippet).stdout == "[[1,2,3,4]]\n"
    for path, key, body in gateway.requests:
        assert (path, key, body["model"]) == ("/v1/chat/completions", f"Bearer {KEY}", MODEL)
        assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert len(gateway.requests) == (1 if host == NAME else 2)
    (folder / "ca.pem").write_text(certificates.new_authority("another", certificates.now())[0])
    assert paste(curl).returncode == 60, "curl: the peer's certificate is not of this authority"


def test_show_prints_the_endpoint_in_place_of_the_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's key, where there is one, is a file of the state."""
    (tmp_path / "Pulumi.yaml").touch()
    values = outputs(
        replicas={"prod-1": {"replicas": [{"name": "glm-0", "port": 8000, "model": MODEL}], "connection": {}}}
    )
    state = [
        {"type": "fleet:index:Gateway", "urn": f"urn::{name}", "outputs": item}
        for name, item in values.pop("gateways").items()
    ]
    state.append(
        {"type": "fleet:index:Authority", "urn": "urn::authority", "outputs": {"ends": values.pop("authority_ends")}}
    )
    (tmp_path / "answer").write_text(json.dumps(values))
    (tmp_path / "state").write_text(json.dumps({"deployment": {"resources": state}}))
    write_program(tmp_path / "pulumi", f"cd {tmp_path}; case $2 in export) cat state ;; *) cat answer ;; esac")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("FLEET_STATE", str(tmp_path / "state folder"))
    monkeypatch.setattr(endpoint, "resolves", lambda _: True)
    monkeypatch.chdir(tmp_path)

    def show() -> str:
        result = testing.CliRunner().invoke(main.main, ["show", "-s", "prod"])
        assert result.exit_code == 0, result.output
        return result.output

    report, paste = ((GOLDEN / f"{name}.txt").read_text() for name in ("report", "paste"))
    assert show().endswith(f"\n\n{report}\n{paste}") and "fleet forward" not in show()
    key = tmp_path / "state folder" / "lab" / "prod.key"
    key.parent.mkdir(parents=True)
    key.touch()
    assert "$(cat 'state folder/lab/prod.key')" in show()
