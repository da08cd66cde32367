"""The real Pulumi engine with a gateway: what its stack adds, what a renewal, a client and a flag change, and where keys are in the state.

The machines are imaginary, and the tests are steps: each goes on where the one before it stopped. Needs `pulumi` on PATH.
"""

import datetime
import json
import re
from typing import Any

import pytest
import yaml

from fleet import certificates
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, KEY, Fleet, beside_the_stack, diagnostics, pulumi

NAMES = "  prod-1, prod-2, prod-3, prod-4"
PORTS = (
    "open in firewalls of yours (docs/ports.md): 443 of prod-1, prod-3 for the clients; "
    "8443 of prod-1, prod-2, prod-3, prod-4 for prod-1, prod-3; 8444 of prod-1, prod-3 for prod-1, prod-3"
)
SHA256 = "5f" * 32


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack prod, deployed without a gateway; its file then names two."""
    fleet = Fleet(tmp_path_factory.mktemp("gateway"))
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    fleet.set("glm-fleet:gateway.name", "glm.example.com")
    for place, node in enumerate(("prod-1", "prod-3")):
        fleet.set(f"glm-fleet:gateway.nodes[{place}]", node)
    return fleet


def ends(days: int) -> str:
    """Return the last day of a certificate that was issued so many days later."""
    return str(certificates.now().date() + datetime.timedelta(days=days + 90))


def state(fleet: Fleet, *options: str) -> list[dict[str, Any]]:
    """Return the resources of the stack's state."""
    export = json.loads(expect_success(pulumi(fleet.project, "stack", "export", "-s", "prod", *options)))
    return list(export["deployment"]["resources"])


def updated(output: str) -> list[tuple[str, str]]:
    """Return (kind, name) of what a preview updates; it reports some twice."""
    return sorted({*re.findall(r"(?m)^ ~ .*?fleet:index:(\w+) ([\w-]+) update", output)})


def test_a_gateway_adds_an_authority_and_a_proxy_to_each_machine(fleet: Fleet) -> None:
    output = expect_success(fleet.run("preview"))
    assert "+ 5 to create" in output and "19 unchanged" in output
    assert diagnostics(output) == beside_the_stack("4 nodes: set up Gateway, not measured yet", NAMES, PORTS)
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    for more in ((), ("--refresh",)):
        assert "24 unchanged" in expect_success(fleet.run("preview", "--expect-no-changes", *more))


def test_a_drained_node_is_drift_that_no_update_ends(fleet: Fleet) -> None:
    fleet.machines(drained=["prod-2"])
    words = (
        "node prod-2 (drained by operator since 2026-09-21 14:13 UTC, "
        "wanted in rotation: `fleet undrain`, and no `pulumi up`, puts it back)"
    )
    output = expect_success(fleet.run("preview", "--refresh"))
    assert diagnostics(output) == beside_the_stack(f"prod-2: nothing restarts: {words}")
    for _ in range(2):
        output = expect_success(fleet.run("up", "--yes", "--skip-preview", "--refresh"))
        assert f"stays as it is: {words}" in output
    fleet.machines()
    expect_success(fleet.run("up", "--yes", "--skip-preview", "--refresh"))
    assert "24 unchanged" in expect_success(fleet.run("preview", "--expect-no-changes", "--refresh"))


def test_the_endpoint_is_one_url_and_no_key_is_in_clear_anywhere(fleet: Fleet) -> None:
    outputs = json.loads(expect_success(pulumi(fleet.project, "stack", "output", "--json", "-s", "prod")))
    assert outputs["endpoint"] == "https://glm.example.com/v1"
    assert outputs["authority"].startswith("-----BEGIN CERTIFICATE-----\n")
    text = json.dumps(state(fleet))
    assert "PRIVATE KEY" not in text and KEY not in text
    shown = {item["type"].rpartition(":")[2] for item in state(fleet, "--show-secrets") if "PRIVATE KEY" in str(item)}
    assert shown == {"Authority", "Gateway"}


def test_a_client_s_key_reloads_the_gateways_alone_and_restarts_nothing(fleet: Fleet) -> None:
    reload = "prod-1, prod-3: reload fleet-gateway"
    client = '{"concurrent": 64, "megabytes_per_minute": 20...'
    fleet.set("glm-fleet:clients.team-a.sha256", SHA256)
    output = expect_success(fleet.run("preview"))
    assert updated(output) == [("Gateway", "prod-1"), ("Gateway", "prod-3")]
    assert diagnostics(output) == beside_the_stack(
        f"{reload}, not measured yet: gateway_clients.team-a unset -> {client}"
    )
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    whole = fleet.file.read_text()
    expect_success(pulumi(fleet.project, "config", "rm", "glm-fleet:clients", "-s", "prod"))
    output = expect_success(fleet.run("preview"))
    assert updated(output) == [("Gateway", "prod-1"), ("Gateway", "prod-3")]
    assert diagnostics(output) == beside_the_stack(
        f"{reload}, about 9 s each: gateway_clients.team-a {client} -> unset"
    )
    fleet.file.write_text(whole)


def test_one_more_gateway_needs_open_ports_again(fleet: Fleet) -> None:
    as_it_is = fleet.file.read_text()
    fleet.set("glm-fleet:gateway.nodes[2]", "prod-2")
    last = diagnostics(expect_success(fleet.run("preview"))).splitlines()[-1]
    assert last.startswith(
        "  open in firewalls of yours (docs/ports.md): 443 of prod-1, prod-2, prod-3 for the clients; "
    )
    fleet.file.write_text(as_it_is)


def test_a_flag_is_no_change_of_a_proxy(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    output = expect_success(fleet.run("preview"))
    assert {kind for kind, _ in updated(output)} == {"Serving"}
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    expect_success(fleet.run("preview", "--expect-no-changes"))


def test_a_preview_says_when_a_certificate_ends_and_an_update_renews_it(fleet: Fleet) -> None:
    fleet.machines(days=59)
    expect_success(fleet.run("preview", "--expect-no-changes"))
    fleet.machines(days=61)
    output = expect_success(fleet.run("preview"))
    assert updated(output) == [("Gateway", f"prod-{number}") for number in (1, 2, 3, 4)]
    renewed = f"its certificate ends {ends(0)}, renewed"
    assert diagnostics(output) == beside_the_stack(
        f"prod-1, prod-3: reload fleet-proxy, fleet-gateway, about 9 s each: {renewed}",
        f"prod-2, prod-4: reload fleet-proxy, not measured yet: {renewed}",
    )
    assert (
        f"fleet:index:Gateway prod-2 update [diff: ~certificates]; reloads fleet-proxy on prod-2: {renewed}" in output
    )
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert "4 updated" in output and "PRIVATE KEY" not in output
    expect_success(fleet.run("preview", "--expect-no-changes"))
    days = [item["outputs"]["ends"] for item in state(fleet) if item["type"].endswith(":Gateway")]
    assert {day for each in days for day in each.values()} == {ends(61)}


def test_the_authority_is_renewed_in_its_last_year_and_the_proxies_get_it(fleet: Fleet) -> None:
    fleet.machines(days=61 + 29)  # no certificate of a machine is due
    expect_success(fleet.run("preview", "--expect-no-changes"))
    fleet.machines(days=3286)
    output = expect_success(fleet.run("preview"))
    assert updated(output) == [("Authority", "authority"), *(("Gateway", f"prod-{n}") for n in (1, 2, 3, 4))]
    assert "the certificate of the stack's authority is renewed" in diagnostics(output)
    old = json.loads(expect_success(pulumi(fleet.project, "stack", "output", "--json", "-s", "prod")))["authority"]
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    new = json.loads(expect_success(pulumi(fleet.project, "stack", "output", "--json", "-s", "prod")))["authority"]
    assert certificates.ends(new) > certificates.ends(old)
    expect_success(fleet.run("preview", "--expect-no-changes"))


def test_the_endpoint_goes_only_after_the_stack_has_released_it(fleet: Fleet) -> None:
    whole = fleet.file.read_text()
    for key in ("gateway", "clients"):
        expect_success(pulumi(fleet.project, "config", "rm", f"glm-fleet:{key}", "-s", "prod"))
    assert "protected" in expect_failure(fleet.run("up", "--yes", "--skip-preview"))
    without = fleet.file.read_text()
    fleet.file.write_text(whole)
    fleet.set("glm-fleet:release.gateway", "another balancer takes over")
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert "24 unchanged" in output, "it restarts nothing"
    fleet.file.write_text(without)
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert {item["type"].rpartition(":")[2] for item in state(fleet)}.isdisjoint({"Authority", "Gateway"})
    protected = {item["type"].rpartition(":")[2] for item in state(fleet) if item.get("protect")}
    assert protected == {"Node", "Host", "Weights", "Serving"}


def test_a_machine_without_gpus_is_a_node_and_a_host_and_nothing_changes_afterwards(fleet: Fleet) -> None:
    stack = yaml.safe_load(fleet.file.read_text())
    machines = stack["config"]["glm-fleet:nodes"]["machines"]
    machines["door-1"] = {**machines["prod-1"], "address": "192.0.2.77", "gpus": 0, "vars": {}}
    fleet.file.write_text(yaml.safe_dump(stack))
    output = expect_success(fleet.run("preview"))
    assert "+ 2 to create" in output and "19 unchanged" in output
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    for more in ((), ("--refresh",)):
        assert "21 unchanged" in expect_success(fleet.run("preview", "--expect-no-changes", *more))
    (host,) = (item for item in state(fleet) if item["urn"].endswith(":Host::door-1"))
    assert [*host["inputs"]["roles"]] == ["host"]
