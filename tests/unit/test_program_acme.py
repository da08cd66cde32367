"""A stack whose gateways get their certificates by ACME: one account's key for all, what each gateway asks for, and the outputs."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import certificates
from fleet.program import own_certificate
from fleet.stack import gateway_form
from tests.support.program_mocks import SECRET, Declared, config, run

NAME, MORE, ACCOUNT = "glm.example.com", "glm2.example.com", "an account's key"
SERVER = "https://acme.example.com/directory"


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def prod(**acme: Any) -> dict[str, Any]:
    gateway = {"nodes": ["prod-1", "prod-2"], "name": NAME, "names": [MORE], "certificate": "acme"}
    return {**config("prod"), "glm-fleet:gateway": {**gateway, "acme": {"terms_agreed": True, **acme}}}


@pytest.fixture(scope="module")
def declared() -> Declared:
    return run("prod", prod())


def test_all_gateways_share_one_account(declared: Declared) -> None:
    assert declared.names("Account") == ["account"]
    for name in ("prod-1", "prod-2"):
        inputs = declared.inputs["Gateway", name]
        wanted = {"server": "letsencrypt", "names": [NAME, MORE], "thumbprint": "THUMBPRINT"}
        assert inputs["vars"]["gateway_acme"] == wanted
        assert (inputs["acme_key"]["value"], SECRET in inputs["acme_key"]) == (ACCOUNT, True)
        assert inputs["names"] == [NAME, MORE], "the stack's authority signs a certificate for them until ACME does"


def test_a_machine_that_no_client_connects_to_has_nothing_of_it(declared: Declared) -> None:
    node = declared.inputs["Gateway", "prod-3"]
    assert node["vars"]["gateway_acme"] == {} and "acme_key" not in node
    holders = {key for key, inputs in declared.inputs.items() if ACCOUNT in json.dumps(inputs)}
    assert holders == {("Gateway", "prod-1"), ("Gateway", "prod-2")}


def test_clients_need_no_certificate_of_the_stack_s_authority(declared: Declared) -> None:
    assert declared.outputs["endpoint"] == f"https://{NAME}/v1"
    assert "authority" not in declared.outputs


def test_the_account_goes_with_the_setting_and_is_never_protected(declared: Declared) -> None:
    values = prod()
    values["glm-fleet:gateway"] = {"nodes": ["prod-1", "prod-2"], "name": NAME}
    without = run("prod", values)
    assert without.names("Account") == []
    assert {without.inputs["Gateway", name]["vars"]["gateway_acme"] == {} for name in ("prod-1", "prod-2")} == {True}
    assert ("Account", "account") not in declared.protected and ("Authority", "authority") in declared.protected


def test_a_private_server_is_trusted_by_a_file_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    authority, _ = certificates.new_authority("of a private server", certificates.now())
    (tmp_path / "acme.pem").write_text(authority)
    declared = run("prod", prod(server=SERVER, contact="ops@example.com", ca="acme.pem"))
    inputs = declared.inputs["Gateway", "prod-1"]
    assert inputs["acme_authority"] == authority
    acme = inputs["vars"]["gateway_acme"]
    assert (acme["server"], acme["contact"]) == (SERVER, "ops@example.com")


def test_a_file_that_trusts_nobody_is_reported_before_anything_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    acme = {"terms_agreed": True, "server": SERVER, "ca": "acme.pem"}
    form = gateway_form.Gateway.model_validate({"nodes": ["prod-1"], "name": NAME, "certificate": "acme", "acme": acme})

    def mistakes() -> list[str]:
        reported = own_certificate.mistakes(form, "", "FILE", certificates.now().date())
        return [str(mistake).splitlines()[0] for mistake in reported]

    assert mistakes() == ['FILE: gateway.acme.ca: "acme.pem": no such file or directory']
    (tmp_path / "acme.pem").write_text("nothing")
    assert mistakes() == ['FILE: gateway.acme.ca: "acme.pem": has no certificate']
