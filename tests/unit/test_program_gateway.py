"""The one endpoint in the program: which machine gets which proxy with which inputs, the outputs, and a stack without a gateway."""

import datetime
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import certificates, errors
from fleet.program import own_certificate
from fleet.stack import gateway_form
from tests.support.program_mocks import KEY, SECRET, Declared, config, run, run_as_written

NAME, SHA256 = "glm.example.com", "5f" * 32
CLIENTS = {"team-a": {"sha256": SHA256, "requests_per_minute": 60}}
LIMITS = {"requests_per_minute": 60, "megabytes_per_minute": 2000, "concurrent": 64}
NOW = certificates.now()


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def prod(*nodes: str, without_gpus: str = "", **keys: Any) -> dict[str, Any]:
    """Return the stack prod with these gateways; its second machine has an internal address."""
    values = config("prod")
    machines = values["glm-fleet:nodes"]["machines"]
    machines["prod-2"]["internal_address"] = "10.0.0.12"
    if without_gpus:
        machines[without_gpus] |= {"gpus": 0, "vars": {}}
    gateway = {"nodes": list(nodes), "name": NAME, **keys}
    return {**values, "glm-fleet:gateway": gateway, "glm-fleet:clients": CLIENTS}


@pytest.fixture(scope="module")
def declared() -> Declared:
    """The declarations of a stack with two gateways, one of which serves nothing."""
    return run("prod", prod("prod-2", "prod-4", without_gpus="prod-4"))


def test_a_stack_without_a_gateway_declares_nothing_of_it() -> None:
    declared = run_as_written("staging")
    assert (declared.names("Authority"), declared.names("Gateway")) == ([], [])
    assert set(declared.outputs) == {"endpoints", "replicas", "api_key"}


def test_a_gateway_changes_no_input_of_another_resource() -> None:
    values = config("prod")
    del values["glm-fleet:gateway"]
    plain, declared = run("prod", values), run("prod", prod("prod-1", "prod-2"))
    for key, inputs in plain.inputs.items():
        if key[0] != "Node":  # the internal address is no input: it is equal without `wants`
            assert declared.inputs[key] == inputs
    added = {kind for kind, _ in declared.inputs.keys() - plain.inputs.keys()}
    assert added == {"Authority", "Gateway"}


def test_every_machine_that_serves_and_every_gateway_has_its_proxies(declared: Declared) -> None:
    faces = {name: declared.inputs["Gateway", name]["vars"]["gateway_faces"] for name in declared.names("Gateway")}
    assert faces == {"prod-1": ["node"], "prod-2": ["node", "clients"], "prod-3": ["node"], "prod-4": ["clients"]}


def test_a_gateway_reaches_each_machine_that_serves_at_its_internal_address(declared: Declared) -> None:
    address = config("prod")["glm-fleet:nodes"]["machines"]["prod-1"]["address"]
    for name in ("prod-2", "prod-4"):
        nodes = declared.inputs["Gateway", name]["vars"]["gateway_nodes"]
        assert [node["name"] for node in nodes] == ["prod-1", "prod-2", "prod-3"]
        assert [node["address"] for node in nodes][:2] == [address, "10.0.0.12"]
    assert declared.inputs["Gateway", "prod-2"]["vars"]["gateway_address"] == "10.0.0.12"


def test_a_machine_gets_only_what_its_own_proxies_need(declared: Declared) -> None:
    """So that a new client's key runs on the gateways alone."""
    node, entry = (declared.inputs["Gateway", name] for name in ("prod-1", "prod-4"))
    empty = {"gateway_name": "", "gateway_nodes": [], "gateway_peers": [], "gateway_clients": {}}
    assert {name: node["vars"][name] for name in empty} == empty
    assert node["vars"]["gateway_names"] == ["prod-2", "prod-2.r1", "prod-4", "prod-4.r1"], "and that of a next reissue"
    assert node["vars"]["gateway_replicas"] == [{"name": "glm-0", "port": 8000, "model": "m"}]
    assert "names" not in node
    assert (entry["vars"]["gateway_replicas"], entry["vars"]["gateway_names"]) == ([], [])
    assert entry["vars"]["gateway_clients"] == {"team-a": {"sha256": SHA256, **LIMITS}}
    assert entry["names"] == [NAME]


def test_the_gateways_know_each_other_by_name_and_internal_address(declared: Declared) -> None:
    for name in ("prod-2", "prod-4"):
        variables = declared.inputs["Gateway", name]["vars"]
        assert variables["gateway_name"] == name
        assert [peer["name"] for peer in variables["gateway_peers"]] == ["prod-2", "prod-4"]
        assert variables["gateway_peers"][0]["address"] == "10.0.0.12"


def names(declared: Declared, variable: str, *parts: str) -> set[str]:
    """Return what each machine's variable has: names, or these parts of its entries."""
    values = [declared.inputs["Gateway", name]["vars"][variable] for name in declared.names("Gateway")]
    return {entry[part] if parts else entry for value in values for entry in value for part in parts or [""]}


def test_no_proxy_knows_a_machine_that_has_left_the_stack() -> None:
    """The certificate of such a machine holds for up to 90 days; the lists of names refuse it from the next update on."""
    values = prod("prod-1", "prod-2", "prod-3")
    before = run("prod", values)
    assert "prod-3" in names(before, "gateway_names") & names(before, "gateway_nodes", "name", "certificate")
    machines = values["glm-fleet:nodes"]["machines"]
    machines["prod-3"]["state"] = "absent"
    values["glm-fleet:gateway"]["nodes"] = ["prod-1", "prod-2"]
    after = run("prod", values)
    assert names(after, "gateway_names") == {"prod-1", "prod-1.r1", "prod-2", "prod-2.r1"}
    assert names(after, "gateway_nodes", "name", "certificate") == {"prod-1", "prod-2", "prod-4"}
    assert names(after, "gateway_peers", "name", "certificate") == {"prod-1", "prod-2"}
    assert "Gateway/prod-3" not in {f"Gateway/{name}" for name in after.names("Gateway")}


def test_a_machine_that_is_no_gateway_any_more_stays_a_node() -> None:
    declared = run("prod", prod("prod-1", "prod-2"))
    assert names(declared, "gateway_names") == {"prod-1", "prod-1.r1", "prod-2", "prod-2.r1"}
    assert "prod-3" in names(declared, "gateway_nodes", "name")


def test_a_reissue_gives_a_machine_a_name_that_its_old_certificates_do_not_have() -> None:
    declared = run("prod", prod("prod-1", "prod-2", reissue={"prod-2": 2, "prod-3": 1}))
    assert declared.inputs["Gateway", "prod-2"]["own_names"] == ["prod-2.r2", "prod-2.r1"]
    assert declared.inputs["Gateway", "prod-3"]["own_names"] == ["prod-3.r1", "prod-3"]
    assert "own_names" not in declared.inputs["Gateway", "prod-1"]
    assert names(declared, "gateway_names") == {"prod-1", "prod-1.r1", "prod-2.r2", "prod-2.r3"}
    assert names(declared, "gateway_nodes", "certificate") == {"prod-1", "prod-2.r2", "prod-3.r1", "prod-4"}
    assert names(declared, "gateway_peers", "certificate") == {"prod-1", "prod-2.r2"}


def test_a_virtual_address_is_the_gateways_alone() -> None:
    declared = run("prod", prod("prod-1", "prod-2", address="192.0.2.99/24"))
    virtual = {
        name: declared.inputs["Gateway", name]["vars"]["gateway_virtual_address"] for name in declared.names("Gateway")
    }
    assert virtual == {"prod-1": "192.0.2.99/24", "prod-2": "192.0.2.99/24", "prod-3": "", "prod-4": ""}


def test_the_keys_are_secrets_of_the_resources_that_need_them(declared: Declared) -> None:
    for name in declared.names("Gateway"):
        inputs = declared.inputs["Gateway", name]
        assert (inputs["inner_key"]["value"], SECRET in inputs["inner_key"]) == (KEY, True)
        assert (inputs["authority_key"]["value"], SECRET in inputs["authority_key"]) == ("an authority's key", True)
        assert inputs["authority"] == "a certificate"
    texts = {kind: json.dumps(inputs) for (kind, _), inputs in declared.inputs.items()}
    assert {kind for kind, text in texts.items() if "an authority's key" in text} == {"Gateway"}


@pytest.mark.parametrize(("port", "url"), [(None, f"https://{NAME}/v1"), (8443, f"https://{NAME}:8443/v1")])
def test_the_output_endpoint_is_one_url_beside_the_certificate_that_clients_trust(port: int | None, url: str) -> None:
    values = prod("prod-1", "prod-2")
    values["glm-fleet:vars"] |= {"gateway_port": port} if port else {}
    outputs = run("prod", values).outputs
    assert (outputs["endpoint"], outputs["authority"]) == (url, "a certificate")
    assert sorted(outputs["endpoints"]) == [f"prod-{number}/glm-0" for number in (1, 2, 3, 4)]


def test_a_machine_without_gpus_has_only_its_host_and_its_proxy(declared: Declared) -> None:
    kinds = {kind for kind, name in declared.inputs if name == "prod-4"}
    assert kinds == {"Node", "Host", "Gateway"}
    host = declared.inputs["Host", "prod-4"]
    assert set(host["roles"]) == {"host"}
    assert {name.split("_")[0] for name in host["vars"]} <= {"host"}
    assert sorted(declared.outputs["replicas"]) == ["prod-1", "prod-2", "prod-3"]


def test_the_lab_s_machines_reach_each_other_at_their_containers_addresses() -> None:
    values = {**config("lab"), "glm-fleet:gateway": {"nodes": ["glm-1"], "name": NAME}}
    declared = run("lab", values)
    variables = declared.inputs["Gateway", "glm-1"]["vars"]
    assert variables["gateway_address"] == "192.0.2.99"
    assert [node["address"] for node in variables["gateway_nodes"]] == ["192.0.2.99"] * 2


@pytest.mark.parametrize("name", ["gateway", "prod-1"])
def test_the_proxies_and_the_authority_are_protected_until_the_stack_releases_them(name: str) -> None:
    values = prod("prod-1", "prod-2")
    gateways = {("Gateway", f"prod-{number}") for number in (1, 2, 3, 4)}
    ours = {("Authority", "authority"), *gateways}
    assert ours <= run("prod", values).protected
    protected = run("prod", {**values, "glm-fleet:release": {name: "the fleet moves"}}).protected
    assert ours & protected == (set() if name == "gateway" else ours - {("Gateway", "prod-1")})
    assert ("Serving", "prod-2") in protected


def own(folder: Path, *hosts: str, at: datetime.datetime = NOW) -> tuple[str, str]:
    """Write a user's own certificate for these hosts to certificates/glm.pem below a folder; return it and its key."""
    wanted = certificates.Wanted("server", hosts[0], hosts)
    pem = certificates.issue(wanted, *certificates.new_authority("a public one", at), at)
    chain, key = pem[: pem.index("-----BEGIN PRIVATE")], pem[pem.index("-----BEGIN PRIVATE") :]
    (folder / "certificates").mkdir(exist_ok=True)
    (folder / "certificates" / "glm.pem").write_text(chain)
    return chain, key


FILES: dict[str, Any] = {"certificate": "files", "chain": "certificates/glm.pem"}


def test_a_stack_s_own_certificate_is_an_input_of_its_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chain, key = own(tmp_path, NAME)
    declared = run("prod", prod("prod-1", "prod-2", **FILES), {"vllm_api_key": KEY, "gateway_key": key})
    entry, node = (declared.inputs["Gateway", name] for name in ("prod-2", "prod-3"))
    assert (entry["chain"], entry["gateway_key"]["value"]) == (chain, key)
    assert "chain" not in node and "gateway_key" not in node
    assert declared.outputs["endpoint"] == f"https://{NAME}/v1"
    assert "authority" not in declared.outputs, "clients trust the authority that signed it"


def mistakes(key: str, **more: Any) -> list[str]:
    form = gateway_form.Gateway(nodes=["prod-1"], name=NAME, **FILES, **more)
    found: list[errors.SettingsError] = list(own_certificate.mistakes(form, key, "FILE", NOW.date()))
    return [str(mistake).splitlines()[0] for mistake in found]


def test_a_wrong_certificate_or_key_is_reported_before_anything_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chain = 'FILE: gateway.chain: "certificates/glm.pem": '
    assert mistakes("") == [f"{chain}no such file or directory"]
    _, key = own(tmp_path, NAME)
    assert mistakes(key) == mistakes("") == []
    for wrong in (own(tmp_path / "..", "other.example")[1], "no key"):
        (message,) = mistakes(wrong)
        assert message == "FILE: gateway_key: is another key, or none"
        assert "BEGIN" not in message
    other = f"{chain}its certificate is not for glm2.example.com, only for {NAME}"
    assert mistakes(key, names=["glm2.example.com"]) == [other]
    _, key = own(tmp_path, "*.example.com")
    assert mistakes(key, names=["glm2.example.com"]) == []
    assert mistakes(key, names=["a.b.example.com"])[0].startswith(f"{chain}its certificate is not for a.b.example.com")
    _, key = own(tmp_path, NAME, at=NOW - datetime.timedelta(days=91))
    assert mistakes(key) == [f"{chain}ended on {NOW.date() - datetime.timedelta(days=1)}"]
    (tmp_path / "certificates" / "glm.pem").write_text("nothing")
    assert mistakes(key) == [f"{chain}has no certificate"]


def test_a_certificate_without_its_secret_key_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    own(tmp_path, NAME)
    with pytest.raises(SystemExit):
        run("prod", prod("prod-1", "prod-2", **FILES))
    assert "pulumi config set --secret gateway_key -s prod" in caplog.text


def test_a_failing_machine_keeps_its_gateway_in_the_program() -> None:
    declared = run("prod", prod("prod-1", "prod-2"), failing=("Serving/prod-2", "Gateway/prod-2"))
    assert sorted(declared.names("Gateway")) == ["prod-1", "prod-2", "prod-3", "prod-4"]


def test_the_lab_s_gateways_reach_its_nodes_at_the_addresses_of_their_containers() -> None:
    declared = run_as_written("lab")
    assert sorted(declared.names("Gateway")) == ["glm-1", "glm-2"]
    for name in ("glm-1", "glm-2"):
        variables = declared.inputs["Gateway", name]["vars"]
        assert variables["gateway_faces"] == ["node", "clients"]
        assert variables["gateway_address"] == "192.0.2.99", "of the mocks' Machine"
        machines = [{"name": node, "address": "192.0.2.99", "certificate": node} for node in ("glm-1", "glm-2")]
        assert variables["gateway_nodes"] == variables["gateway_peers"] == machines
    assert declared.inputs["Host", "client"]["roles"].keys() == {"host"}
    assert declared.outputs["endpoint"] == "https://glm.lab.internal/v1"
