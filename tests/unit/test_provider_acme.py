"""The resource Account, and what Gateway says of a certificate that an ACME server should give: warning, drift, unknown."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from fleet import certificates, drift, errors, ssh
from fleet.ansible import converge
from fleet.impact import effects
from fleet.managed import served_certificate
from fleet.provider import base
from fleet.provider.account import Account
from fleet.provider.gateway import Gateway
from fleet.provider.properties import UNKNOWN, Props
from fleet.provider.slots import Slots
from tests.support.gateway_resource import NODE, Runs, authority, inputs_of, request

ACME = {"server": "letsencrypt", "contact": "", "names": ["glm.example.com"], "thumbprint": "T" * 43}
RIGHT = {"by": "acme", "ends": "2027-02-28", "right": True, "seen": ""}
WRONG = {"by": "authority", "ends": "2027-02-28", "right": False, "seen": "glm.example.com has no address here"}
LATE = {"by": "acme", "ends": "2026-12-12", "right": False, "seen": "too many certificates"}


@pytest.fixture(scope="module")
def account() -> Props:
    return Account().apply(request("Account"), {}, None)


def unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def test_the_thumbprint_is_that_of_rfc_7638(account: Props) -> None:
    key: Any = serialization.load_pem_private_key(account["private"].encode(), None)
    numbers = key.public_key().public_numbers()
    modulus = unpadded(numbers.n.to_bytes(key.key_size // 8, "big"))
    canonical = f'{{"e":"AQAB","kty":"RSA","n":"{modulus}"}}'
    assert json.loads(canonical)["e"] == unpadded(numbers.e.to_bytes(3, "big"))
    assert account["thumbprint"] == unpadded(hashlib.sha256(canonical.encode()).digest())
    assert key.key_size == 3072, "Let's Encrypt accepts 2048, 3072 and 4096 bits"


def test_an_account_keeps_its_key(account: Props) -> None:
    assert Account().apply(request("Account"), {}, account) == account
    assert Account().planned_outputs({}, {}, None) == {"private": UNKNOWN, "thumbprint": UNKNOWN}
    assert Account().planned_outputs({}, {}, account) == account


def gateway(served: Mapping[str, Any] | errors.FleetError) -> tuple[Gateway, Runs]:
    """Return the resource of a machine whose gateway shows clients this certificate."""

    def look_at(target: ssh.Target) -> Mapping[str, Any]:
        if isinstance(served, errors.FleetError):
            raise served
        return served

    runs = Runs(acme={} if isinstance(served, errors.FleetError) else served)
    outputs = ("version", "certificates", "ends", "acme")
    return Gateway("Gateway", outputs, Slots(), run=runs, read=lambda *_: [{}], look_at_certificate=look_at), runs


@pytest.fixture
def inputs(account: Props, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Props:
    """Return the inputs of a gateway that gets its certificate by ACME."""
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    acme = {"acme_key": account["private"], "acme_authority": "a private server's"}
    plain = inputs_of(authority(), "clients", names=ACME["names"], **acme)
    return {**plain, "vars": {**plain["vars"], "gateway_acme": ACME}}


def applied(served: Mapping[str, Any], inputs: Props) -> tuple[Props, list[str], converge.Job]:
    """Return state, warnings and job of a first run."""
    resource, runs = gateway(served)
    lines: list[str] = []
    state = resource.apply(request("Gateway", lines), inputs, None)
    return state, lines, runs.jobs[0]


def test_a_run_gives_the_account_s_key_to_the_role_by_its_environment_alone(inputs: Props) -> None:
    state, lines, job = applied(RIGHT, inputs)
    assert (lines, state["acme"]) == ([], RIGHT)
    assert job.secrets["GATEWAY_ACME_KEY"] == inputs["acme_key"]
    assert job.secrets["GATEWAY_ACME_AUTHORITY"] == "a private server's"
    assert "PRIVATE" not in str({**job.variables, **job.data})
    assert certificates.hosts(state["certificates"]["server"]) == ACME["names"], "clients get it until ACME gives one"


def test_a_run_without_a_certificate_ends_and_warns(inputs: Props) -> None:
    state, lines, _ = applied(WRONG, inputs)
    assert state["acme"] == WRONG
    assert lines == [
        "glm-1: get a certificate by ACME: clients get a certificate of the stack's own authority: glm.example.com has no address here\n"
        "  wanted: one of letsencrypt for glm.example.com\n"
        "  next:   let each address of glm.example.com reach port 80 of a gateway; the machine asks again by itself, `pulumi up` at once"
    ]


def test_another_certificate_warns_of_nothing(inputs: Props) -> None:
    plain = {**inputs, "vars": {**inputs["vars"], "gateway_acme": {}}}
    state, lines, _ = applied({}, plain)
    assert (state["acme"], lines) == ({}, [])


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (RIGHT, []),
        (
            WRONG,
            [
                "certificate glm-1 (a certificate of the stack's own authority: glm.example.com has no address here, wanted by ACME)"
            ],
        ),
        (
            LATE,
            [
                "certificate glm-1 (one that ends 2026-12-12, or is not for all names: too many certificates, wanted by ACME)"
            ],
        ),
    ],
)
def test_a_certificate_that_acme_did_not_give_or_renew_is_drift(
    inputs: Props, served: Mapping[str, Any], words: list[str]
) -> None:
    state, *_ = applied(RIGHT, inputs)
    resource, runs = gateway(served)
    current = resource.read(request("Gateway"), state)
    assert [str(difference) for difference in drift.recorded(current)] == words
    assert current["acme"] == served
    if words:
        (repair,) = resource.effects(inputs, inputs, current)
        assert effects.in_words(repair, "glm-1") == f"repairs 1 thing on glm-1: {words[0]}"
        runs.served = RIGHT
        assert resource.apply(request("Gateway"), inputs, current)["drift"] == []
        assert "revert" not in runs.jobs[-1].data


def test_a_machine_that_does_not_answer_fails_no_refresh(inputs: Props) -> None:
    state, *_ = applied(RIGHT, inputs)
    resource, _ = gateway(errors.CommandFailed(node="glm-1", doing="ask", seen="no such file"))
    lines: list[str] = []
    current = resource.read(request("Gateway", lines), state)
    assert (current["acme"], current["drift"]) == (RIGHT, [])
    assert lines == ["which certificate glm-1 has by ACME is unknown: no such file"]


@dataclasses.dataclass
class Shell:
    """Stands in for a connection: each command prints this."""

    stdout: str
    stderr: str = ""
    rc: int = 0
    target: ssh.Target = dataclasses.field(default_factory=lambda: ssh.Target.from_inputs(NODE))

    def run(self, command: str) -> "Shell":
        return self


def test_a_node_s_answer_has_a_form() -> None:
    right: Any = Shell(json.dumps({"changed": False, **RIGHT}))
    assert served_certificate.look(right) == RIGHT


@pytest.mark.parametrize(
    ("stdout", "stderr", "rc", "seen"),
    [
        ("", "Traceback\nFileNotFoundError: settings.json", 1, "FileNotFoundError: settings.json"),
        ("nothing", "", 0, "no JSON: nothing"),
        (json.dumps({"changed": False, **RIGHT, "seen": "{{ lookup('pipe', 'id') }}"}), "", 0, "seen: {{ lookup('pipe', 'id') }}"),
        (json.dumps({"changed": False, **RIGHT, "ends": "\x1b[2J"}), "", 0, "ends: "),
    ],
)  # fmt: skip
def test_a_hostile_answer_is_refused(stdout: str, stderr: str, rc: int, seen: str) -> None:
    shell: Any = Shell(stdout, stderr, rc)
    with pytest.raises(errors.CommandFailed) as caught:
        served_certificate.look(shell)
    assert caught.value.seen.startswith(seen)
