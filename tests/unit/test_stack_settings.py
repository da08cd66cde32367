"""A mistake in a stack file is reported with file, key, value, what is allowed and the nearest name: golden/stack_settings/."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.sources import forms
from fleet.sources.ssh.form import Nodes
from fleet.stack import inventory, role_vars, settings, validate
from tests.support.builders import FILE, KEY, REMOVE, changed
from tests.support.source_table import SOURCES

GOLDEN = Path(__file__).parent / "golden" / "stack_settings"


def stack() -> dict[str, Any]:
    """Return a right stack of two machines, as Pulumi passes it: scalars are text."""
    return {
        "nodes": {
            "source": "ssh",
            "defaults": {"user": "root", "gpus": 8},
            "machines": {
                "prod-1": {"address": "192.0.2.11", "host_key": KEY},
                "prod-2": {"address": "192.0.2.12", "host_key": KEY, "port": 2222, "gpus": 4},
            },
        },
        "vars": {"vllm_served_model_name": "zai-org/GLM-4.6V"},
        "parallel": "4",
    }


def lab(name: str, **machine: Any) -> dict[str, Any]:
    """Return a source of one lab machine."""
    return {"source": "lab", "machines": {name: machine}}


SSH, LAB = stack()["nodes"], lab("glm-1", system="debian-12", gpus=1)


WAIVER = {"reason": "profile the engine", "expires": "2026-12-31"}
BASTION = {"address": "192.0.2.1", "host_key": KEY}


AGREED = {"terms_agreed": True}
CLOUD = SOURCES["azure"].nodes(**{"burst-1": {}, "burst-2": {"state": "absent"}})
GATEWAY = {"nodes": ["prod-1", "prod-2"], "name": "glm.example.com"}
SHA256 = "5f" * 32


def with_gateway(**keys: Any) -> dict[str, Any]:
    """Return the right stack with a gateway, and these keys of it."""
    return {**stack(), "gateway": {**GATEWAY, **keys}}


def with_state(state: str) -> dict[str, Any]:
    """Return the machines of the right stack, the second in another state."""
    machines = stack()["nodes"]["machines"]
    return {**machines, "prod-2": {**machines["prod-2"], "state": state}}


# claim → the change to the right stack: the path of a key, and its new value
MISTAKES: dict[str, tuple[list[str], Any]] = {
    "a-misspelled-key": (["paralel"], "4"),
    "a-misspelled-key-of-a-machine": (["nodes", "machines", "prod-1", "adress"], "192.0.2.11"),
    "a-misspelled-key-of-the-probes": (["probes"], {"min_iuo": 0.5}),
    "an-unknown-source": (["nodes", "source"], "shh"),
    "no-source": (["nodes", "source"], REMOVE),
    "no-nodes": (["nodes"], REMOVE),
    "no-machines": (["nodes", "machines"], {}),
    "no-host-key": (["nodes", "machines", "prod-1", "host_key"], REMOVE),
    "a-host-key-that-is-none": (["nodes", "machines", "prod-1", "host_key"], "SHA256:abc"),
    "a-port-out-of-range": (["nodes", "machines", "prod-1", "port"], 70000),
    "a-machine-name-with-an-underscore": (["nodes", "machines", "prod_3"], {"address": "192.0.2.13", "host_key": KEY}),
    "one-host-under-two-names": (["nodes", "machines", "prod-3"], {"address": "192.0.2.11", "host_key": KEY}),
    "a-builder-that-is-no-machine": (["nodes", "builder"], "prod-11"),
    "parallel-is-no-number": (["parallel"], "many"),
    "min-iou-above-one": (["probes"], {"min_iou": 50}),
    "a-waiver-without-a-reason": (["waivers"], {"no-ptrace": {"expires": "2026-12-31"}}),
    "a-waiver-with-an-empty-reason": (["waivers"], {"no-ptrace": {**WAIVER, "reason": ""}}),
    "a-waiver-without-a-day": (["waivers"], {"no-ptrace": {"reason": "profile the engine"}}),
    "a-waiver-until-soon": (["waivers"], {"no-ptrace": {**WAIVER, "expires": "soon"}}),
    "a-misspelled-key-of-a-waiver": (["waivers"], {"no-ptrace": {**WAIVER, "expire": "2026-12-31"}}),
    "a-release-of-no-machine": (["release"], {"prod-22": "mainboard replaced"}),
    "a-release-without-a-reason": (["release"], {"prod-2": ""}),
    "a-bastion-without-a-host-key": (["nodes", "defaults", "bastion"], {"address": "192.0.2.1"}),
    "a-misspelled-key-of-a-bastion": (["nodes", "machines", "prod-2", "bastion"], {**BASTION, "usr": "jump"}),
    "a-state-that-does-not-exist": (["nodes", "machines", "prod-2", "state"], "drained"),
    "a-builder-that-is-absent": (["nodes"], {**SSH, "builder": "prod-2", "machines": with_state("absent")}),
    "a-name-in-two-sources": (["nodes"], [SSH, lab("prod-2", system="debian-12")]),
    "a-misspelled-key-in-the-second-source": (["nodes"], [SSH, lab("glm-1", sytem="debian-12", system="debian-12")]),
    "two-builders": (["nodes"], [{**SSH, "builder": "prod-1"}, {**LAB, "builder": "glm-1"}]),
    "no-sources": (["nodes"], []),
    "a-lab-system-that-does-not-exist": (["nodes"], lab("glm-1", system="ubuntu-20.04")),
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_reported(claim: str) -> None:
    raw = changed(stack(), *MISTAKES[claim])
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(raw, FILE)
    expected = (GOLDEN / f"{claim}.txt").read_text().replace("SOURCES", ", ".join(forms.NAMES))
    assert f"{caught.value}\n" == expected


# claim → keys of the gateway, clients, other keys
GATEWAY_MISTAKES: dict[str, dict[str, Any]] = {
    "a-gateway-that-is-no-machine": with_gateway(nodes=["prod-1", "prod-22"]),
    "a-gateway-that-is-absent": {**with_gateway(), "nodes": {**SSH, "machines": with_state("absent")}},
    "a-gateway-that-is-there-twice": with_gateway(nodes=["prod-1", "prod-1"]),
    "no-gateway-at-all": with_gateway(nodes=[]),
    "a-gateway-without-nodes": {**stack(), "gateway": {"name": "glm.example.com"}},
    "a-gateway-without-a-name": {**stack(), "gateway": {"nodes": ["prod-1"]}},
    "a-virtual-address-without-its-network": with_gateway(nodes=["prod-1", "prod-2"], address="192.0.2.10"),
    "a-virtual-address-that-is-a-network": with_gateway(nodes=["prod-1", "prod-2"], address="192.0.2.0/24"),
    "a-virtual-address-of-one-gateway": with_gateway(nodes=["prod-1"], address="192.0.2.99/24"),
    "a-virtual-address-of-a-machine": with_gateway(nodes=["prod-1", "prod-2"], address="192.0.2.11/24"),
    "a-virtual-address-in-a-cloud": {
        "nodes": [SSH, {**SOURCES["digitalocean"].nodes(**{"burst-1": {}}), "gateways_from": ["192.0.2.11/32"]}],
        "gateway": {**GATEWAY, "nodes": ["prod-1", "burst-1"], "address": "192.0.2.99/24", "clients_from": ["192.0.2.0/24"]},
    },
    "a-reissue-of-no-machine": with_gateway(reissue={"prod-22": 1}),
    "a-reissue-without-a-number": with_gateway(reissue={"prod-2": 0}),
    "a-gateway-s-name-that-is-a-url": with_gateway(name="https://glm.example.com"),
    "a-gateway-s-name-that-is-an-address": with_gateway(name="192.0.2.1"),
    "a-wildcard-in-the-certificate": with_gateway(names=["*.example.com"]),
    "a-certificate-from-elsewhere": with_gateway(certificate="vault"),
    "acme-without-its-terms": with_gateway(certificate="acme"),
    "acme-whose-terms-nobody-agreed-to": with_gateway(certificate="acme", acme={"terms_agreed": "false"}),
    "acme-for-another-certificate": with_gateway(acme={"terms_agreed": True}),
    "acme-of-a-server-without-tls": with_gateway(certificate="acme", acme={**AGREED, "server": "http://acme.example.com/directory"}),
    "acme-with-a-command-in-its-contact": with_gateway(certificate="acme", acme={**AGREED, "contact": "a@example.com\"; id"}),
    "acme-for-an-address": with_gateway(certificate="acme", acme=AGREED, names=["glm2.example.com", "192.0.2.1"]),
    "acme-for-a-name-that-is-too-long": with_gateway(certificate="acme", acme=AGREED, name=f"{'glm-' * 14}x.example.com"),
    "a-certificate-without-its-file": with_gateway(certificate="files"),
    "a-file-that-no-certificate-needs": with_gateway(chain="certificates/glm.pem"),
    "a-certificate-outside-of-the-project": with_gateway(certificate="files", chain="../glm.pem"),
    "clients-without-a-gateway": {**stack(), "clients": {"team-a": {"sha256": SHA256}}},
    "a-client-with-a-key-in-clear": {**with_gateway(), "clients": {"team-a": {"key": "glm_abc"}}},
    "a-client-with-a-key-as-its-digest": {**with_gateway(), "clients": {"team-a": {"sha256": "glm_abc"}}},
    "a-client-without-a-digest": {**with_gateway(), "clients": {"team-a": {"concurrent": 8}}},
    "a-client-s-name-with-a-blank": {**with_gateway(), "clients": {"Team A": {"sha256": SHA256}}},
    "a-client-without-any-request": {**with_gateway(), "clients": {"a": {"sha256": SHA256, "concurrent": 0}}},
    "two-clients-with-one-key": {**with_gateway(), "clients": {"a": {"sha256": SHA256}, "b": {"sha256": SHA256}}},
    "a-change-of-no-machine-at-once": {**stack(), "change": {"at_once": 0}},
    "a-misspelled-key-of-the-change": {**stack(), "change": {"canari": False}},
    "a-proxy-without-an-address": changed(with_gateway(), ["nodes", "machines", "prod-2", "address"], "prod-2.example.com"),
    "a-proxy-whose-internal-address-is-a-name": changed(with_gateway(), ["nodes", "machines", "prod-1", "internal_address"], "prod-1.internal"),
    "clients-from-no-network": with_gateway(clients_from=["198.51.100.7/24"]),
    "a-gateway-in-a-cloud-without-its-clients-networks": {"nodes": CLOUD, "gateway": {**GATEWAY, "nodes": ["burst-1"]}},
    "a-gateway-in-a-cloud-with-clients-of-ipv6": {"nodes": CLOUD, "gateway": {**GATEWAY, "nodes": ["burst-1"], "clients_from": ["2001:db8::/32"]}},
    "a-node-in-a-cloud-with-a-gateway-elsewhere": {**with_gateway(), "nodes": [SSH, CLOUD]},
    "everybody-as-a-gateway-of-another-source": {**with_gateway(), "nodes": [SSH, {**CLOUD, "gateways_from": ["0.0.0.0/0"]}]},
    "a-fleet-without-gpus": {**stack(), "nodes": {**SSH, "machines": {"prod-1": {**SSH["machines"]["prod-1"], "gpus": 0}}}},
    "a-builder-without-gpus": changed({**stack(), "nodes": {**SSH, "builder": "prod-2"}}, ["nodes", "machines", "prod-2", "gpus"], 0),
}  # fmt: skip


@pytest.mark.parametrize("claim", GATEWAY_MISTAKES)
def test_a_mistake_about_the_gateway_is_reported_without_a_key(claim: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(GATEWAY_MISTAKES[claim], FILE)
    message = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert f"{message}\n" == (GOLDEN / f"{claim}.txt").read_text()
    assert "glm_abc" not in message


def test_a_gateway_s_certificate_has_each_of_its_names_once() -> None:
    gateway = settings.read(with_gateway(names=["192.0.2.1", "2001:db8::1", "glm.example.com"]), FILE).gateway
    assert gateway and gateway.certificate_names == ["glm.example.com", "192.0.2.1", "2001:db8::1"]


def test_a_machine_without_gpus_serves_nothing_builds_nothing_and_may_be_a_gateway() -> None:
    raw = changed(with_gateway(nodes=["prod-1"]), ["nodes", "machines", "prod-1", "gpus"], 0)
    more = {**SSH["machines"]["prod-1"], "address": "192.0.2.13", "gpus": 0}
    read = settings.read(changed(raw, ["nodes", "machines", "prod-3"], more), FILE)
    assert (read.serving, read.gateways, read.builder) == (["prod-2"], ["prod-1", "prod-2"], "prod-2")


def test_without_a_gateway_no_machine_has_a_proxy() -> None:
    read = settings.read(stack(), FILE)
    assert (read.gateway, read.clients, read.gateways) == (None, {}, [])
    assert read.change.model_dump() == {"at_once": 1, "canary": True, "hold": 60, "drain": 300, "requests": 0}


def test_a_client_has_limits_unless_it_sets_its_own() -> None:
    clients = {"team-a": {"sha256": SHA256}, "team-b": {"sha256": SHA256[::-1], "requests_per_minute": 60}}
    first, second = settings.read({**with_gateway(), "clients": clients}, FILE).clients.values()
    assert (first.requests_per_minute, first.megabytes_per_minute, first.concurrent) == (600, 2000, 64)
    assert (second.requests_per_minute, second.megabytes_per_minute) == (60, 2000)


def test_two_mistakes_are_reported_together() -> None:
    raw = changed(changed(stack(), ["paralel"], "4"), ["nodes", "builder"], 5)
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(raw, FILE)
    messages = [str(caught.value), *caught.value.__notes__]
    assert ["paralel" in text for text in messages].count(True) == 1
    assert ["nodes.builder" in text for text in messages].count(True) == 1


def ssh(raw: dict[str, Any]) -> Nodes:
    """Return the source ssh of a stack."""
    nodes = settings.read(raw, FILE).nodes[0]
    assert isinstance(nodes, Nodes)
    return nodes


def test_a_machine_has_the_defaults_of_its_source() -> None:
    nodes = ssh(stack())
    defaults = {"port": 22, "user": "root", "identity": "~/.ssh/id_ed25519", "become": False, "gpus": 8, "wait": 120}
    assert nodes.connection("prod-1") == {"address": "192.0.2.11", "host_key": KEY, **defaults}
    assert nodes.connection("prod-2")["port"] == 2222
    assert nodes.gpus("prod-2") == 4


@pytest.mark.parametrize("day", ["2026-12-31", "2026-12-31 00:00:00 +0000 UTC"])
def test_a_waivers_day_may_be_a_date_or_a_time_of_yaml(day: str) -> None:
    raw = changed(stack(), ["waivers"], {"no-ptrace": {**WAIVER, "expires": day}})
    waiver = settings.read(raw, FILE).waivers["no-ptrace"]
    assert (waiver.reason, waiver.expires) == ("profile the engine", datetime.date(2026, 12, 31))


def test_the_first_machine_builds_unless_another_is_named() -> None:
    assert settings.read(stack(), FILE).builder == "prod-1"
    assert settings.read(changed(stack(), ["nodes", "builder"], "prod-2"), FILE).builder == "prod-2"


def test_a_bastion_is_the_pool_s_or_the_machine_s_own_and_logs_in_with_the_machine_s_key() -> None:
    raw = changed(stack(), ["nodes", "defaults", "bastion"], {**BASTION, "user": "jump"})
    own = {**BASTION, "address": "192.0.2.2", "identity": "~/.ssh/own"}
    nodes = ssh(changed(raw, ["nodes", "machines", "prod-2", "bastion"], own))
    first, second = (nodes.connection(name)["bastion"] for name in ("prod-1", "prod-2"))
    assert (first["address"], first["user"], first["identity"]) == ("192.0.2.1", "jump", "~/.ssh/id_ed25519")
    assert (second["address"], second["user"], second["identity"]) == ("192.0.2.2", "root", "~/.ssh/own")


def test_the_place_of_a_machine_is_the_pool_s_or_its_own_and_no_part_of_its_connection() -> None:
    raw = changed(stack(), ["nodes", "defaults", "zone"], "a")
    nodes = ssh(changed(raw, ["nodes", "machines", "prod-2", "rack"], "12"))
    assert (nodes.place("prod-1"), nodes.place("prod-2")) == ({"zone": "a"}, {"rack": "12", "zone": "a"})
    assert not {"rack", "zone"} & nodes.connection("prod-2").keys()


def test_an_absent_machine_is_no_part_of_the_fleet_and_builds_nothing() -> None:
    read = settings.read(changed(stack(), ["nodes", "machines", "prod-1", "state"], "absent"), FILE)
    assert (read.present, read.builder) == (["prod-2"], "prod-2")


def test_a_fleet_of_absent_machines_is_refused() -> None:
    raw = changed(stack(), ["nodes", "machines", "prod-1", "state"], "absent")
    with pytest.raises(errors.SettingsError, match="every machine is absent"):
        settings.read(changed(raw, ["nodes", "machines", "prod-2", "state"], "absent"), FILE)


def test_machines_of_several_sources_are_one_fleet() -> None:
    fleet = settings.read({**stack(), "nodes": [SSH, LAB]}, FILE)
    assert fleet.present == ["prod-1", "prod-2", "glm-1"]
    assert [fleet.gpus(name) for name in fleet.present] == [8, 4, 1]
    assert [fleet.key(name) for name in ("prod-1", "glm-1")] == ["nodes[0].machines.prod-1", "nodes[1].machines.glm-1"]
    assert [fleet.protected(name) for name in ("prod-1", "glm-1")] == [True, False]


def read_with_file(folder: Path, text: str | None) -> settings.Settings:
    """Read the right stack with its machines in a file of their own, which holds this text."""
    if text is not None:
        (folder / "machines.yaml").write_text(text)
    whole, files = inventory.expand(changed(stack(), ["nodes", "machines"], "machines.yaml"), folder, FILE)
    return settings.read(whole, FILE, files)


def test_machines_may_have_a_file_of_their_own(tmp_path: Path) -> None:
    read = read_with_file(tmp_path, yaml.safe_dump(SSH["machines"]))
    assert read.model_dump() == settings.read(stack(), FILE).model_dump()


@pytest.mark.parametrize(
    ("claim", "text"),
    {
        "a-mistake-in-a-file-of-machines": "prod-1: {adress: 192.0.2.11}\n",
        "a-file-of-machines-that-is-no-mapping": "- prod-1\n",
        "a-file-of-machines-that-is-no-yaml": "prod-1: {address\n",
    }.items(),
)
def test_a_mistake_in_a_file_of_machines_is_reported_there(claim: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        read_with_file(tmp_path, text)
    message = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert f"{message}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_a_missing_file_of_machines_is_reported(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match=r'nodes\.machines: "machines\.yaml": no such file or directory'):
        read_with_file(tmp_path, None)


def test_a_finding_about_a_machine_of_a_file_is_reported_there(tmp_path: Path) -> None:
    machines = changed(SSH["machines"], ["prod-1", "vars"], {"vllm_shm_sise": "1g"})
    read = read_with_file(tmp_path, yaml.safe_dump(machines))
    roles = role_vars.load(Path(__file__).resolve().parents[2] / "roles")
    (mistake,) = validate.validate(read, roles, FILE, datetime.date(2026, 11, 1)).mistakes
    assert (mistake.file, mistake.key) == ("stacks/machines.yaml", "prod-1.vars.vllm_shm_sise")
