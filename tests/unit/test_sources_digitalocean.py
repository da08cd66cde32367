"""The source digitalocean against the SDK's own classes: exposure, image, protection, host key; and the messages of its refusals.

Messages are compared with golden/sources/.
"""

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from fleet import errors
from fleet.sources import cloud_machines
from fleet.stack import settings
from tests.support.pulumi_mocks import FILE, PRIVATE, SECRET, Declared, Supplied, public, supply
from tests.support.source_table import GATEWAY, POOL, SOURCES

GOLDEN = Path(__file__).parent / "golden" / "sources"
TWO = {**POOL, "machines": {"prod-1": {}, "prod-2": {"size": "gpu-mi300x1-192gb", "region": "nyc2", "image": 7}}}
SSH = SOURCES["ssh"].nodes(**{"colo-1": {}})


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.digitalocean.machines")


@pytest.fixture(scope="module")
def cloud() -> Supplied:
    return supply(TWO)


def droplet(cloud: Supplied, name: str = "prod-1") -> Declared:
    return cloud.of("Droplet")[name]


def test_only_ssh_from_the_named_ranges_is_allowed_in(cloud: Supplied) -> None:
    (firewall,) = cloud.of("Firewall").values()
    rule = {"protocol": "tcp", "portRange": "22", "sourceAddresses": POOL["ssh_from"]}
    assert firewall.inputs["inboundRules"] == [rule]


def test_a_gateway_opens_its_port_to_the_clients_on_its_own_droplet_and_the_proxies_port_inside_the_pool() -> None:
    cloud = supply(TWO, gateway=GATEWAY)
    firewalls = cloud.of("Firewall")
    assert sorted(firewalls) == ["digitalocean", "digitalocean-prod-1"]
    (tag,) = firewalls["digitalocean"].inputs["tags"]
    proxies = {"protocol": "tcp", "portRange": "8443", "sourceTags": [tag]}
    ssh, *opened = firewalls["digitalocean"].inputs["inboundRules"]
    assert (ssh["portRange"], opened) == ("22", [proxies])
    own = firewalls["digitalocean-prod-1"]
    assert own.inputs["dropletIds"] == [4711] and "tags" not in own.inputs
    rule = {"protocol": "tcp", "portRange": "443", "sourceAddresses": ["198.51.100.0/24"]}
    assert own.inputs["inboundRules"] == [rule], "clients_from, those of IPv4"
    assert not own.protected, "a machine that is no gateway any longer loses it"


def test_the_gateways_of_another_source_reach_the_proxies_from_the_named_addresses() -> None:
    nodes = [SSH, {**TWO, "gateways_from": ["192.0.2.11/32"]}]
    cloud = supply(nodes, gateway={**GATEWAY, "nodes": ["colo-1"]})
    (firewall,) = cloud.of("Firewall").values()
    rule = {"protocol": "tcp", "portRange": "8443", "sourceAddresses": ["192.0.2.11/32"]}
    assert firewall.inputs["inboundRules"][1:] == [rule]


def test_the_private_network_of_a_droplet_is_that_of_its_region(cloud: Supplied) -> None:
    assert cloud.inside == {
        "prod-1": ("digitalocean/atl1", "10.0.0.7", False),
        "prod-2": ("digitalocean/nyc2", "10.0.0.7", False),
    }
    without = supply(POOL, changed={"Droplet": {"ipv4AddressPrivate": ""}})
    assert without.inside == {"prod-1": ("digitalocean/atl1", "192.0.2.7", False)}


def test_a_droplet_is_behind_the_firewall_from_its_creation_on(cloud: Supplied) -> None:
    (firewall,) = cloud.of("Firewall").values()
    (tag,) = firewall.inputs["tags"]
    for resource in cloud.of("Droplet").values():
        assert tag in resource.inputs["tags"]
        assert any(urn.endswith("firewall:Firewall::digitalocean") for urn in resource.request.dependencies)


def test_a_droplet_has_the_size_the_region_and_the_image_that_the_stack_names(cloud: Supplied) -> None:
    keys = ("name", "size", "region", "image")
    first, second = ([resource.inputs[key] for key in keys] for resource in cloud.of("Droplet").values())
    assert first == ["prod-1", "gpu-mi300x8-1536gb", "atl1", "188383823"]
    assert second == ["prod-2", "gpu-mi300x1-192gb", "nyc2", "7"]


def test_the_host_key_is_in_the_user_data_and_pinned(cloud: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = droplet(cloud, name).inputs["userData"]["value"]
        keys = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert keys == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert cloud.machines[name]["host_key"] == public(name)
        assert cloud.machines[name]["final_key"]["public"] != public(name)


def test_the_user_data_is_a_secret_and_holds_no_other(cloud: Supplied) -> None:
    value = droplet(cloud).inputs["userData"]
    assert SECRET in value
    assert "userData" in droplet(cloud).request.additionalSecretOutputs
    assert not {"token", "password", "api_key"} & set(json.loads(value["value"].partition("\n")[2]))


def test_a_change_that_would_replace_a_droplet_is_ignored_and_the_droplet_protected(cloud: Supplied) -> None:
    assert droplet(cloud).ignored == ["image", "sshKeys", "tags", "userData"]
    assert droplet(cloud).protected
    assert cloud.of("HostKey")["prod-1"].protected


def test_a_released_droplet_is_not_protected_and_the_firewall_is_while_another_droplet_is() -> None:
    half = supply(TWO, release={"prod-1": "mainboard"})
    droplets = half.of("Droplet")
    assert (droplets["prod-1"].protected, droplets["prod-2"].protected) == (False, True)
    assert all(firewall.protected for firewall in half.of("Firewall").values())
    both = supply(TWO, release={"prod-1": "mainboard", "prod-2": "mainboard"})
    assert not any(resource.protected for resource in both.resources.values())


def test_keys_that_the_account_has_are_named_and_others_are_uploaded(cloud: Supplied) -> None:
    assert droplet(cloud).inputs["sshKeys"] == ["aa:bb"]
    account = supply({**POOL, "account_keys": ["11:22"]})
    assert droplet(account).inputs["sshKeys"] == ["11:22"]
    assert not account.of("SshKey")


def test_another_endpoint_is_a_provider_of_its_own_with_the_stack_s_token() -> None:
    own = supply({**POOL, "endpoint": "https://api.devcloud.amd.com"}, config={"digitalocean:token": "dop_v1_x"})
    (provider,) = own.of("digitalocean").values()
    assert provider.inputs["apiEndpoint"] == "https://api.devcloud.amd.com"
    assert provider.inputs["token"]["value"] == "dop_v1_x" and SECRET in provider.inputs["token"]
    for kind in ("Droplet", "Firewall", "Tag", "SshKey"):
        assert all("providers:digitalocean::" in resource.request.provider for resource in own.of(kind).values())
    holders = {kind for (kind, _), resource in own.resources.items() if "dop_v1_x" in json.dumps(resource.inputs)}
    assert holders == {"digitalocean"}


def test_without_an_endpoint_the_stack_s_own_settings_of_the_plugin_count(cloud: Supplied) -> None:
    assert not cloud.of("digitalocean")
    assert droplet(cloud).request.provider == ""


def test_the_place_of_a_machine_is_its_region(cloud: Supplied) -> None:
    assert [machine.place for machine in cloud.by_machine.values()] == [{"zone": "atl1"}, {"zone": "nyc2"}]


@pytest.mark.parametrize(
    ("claim", "sizes"),
    [
        ("a-size-that-does-not-exist", {"gpu-mi300x8-1536gb-x": ["atl1"]}),
        ("a-size-that-another-region-has", {"gpu-mi300x8-1536gb": ["nyc2", "tor1"]}),
        ("a-size-that-cannot-be-had", {"gpu-mi300x8-1536gb": []}),
    ],
)
def test_a_size_that_cannot_be_created_is_refused_at_the_preview(
    machines: Any, claim: str, sizes: dict[str, list[str]]
) -> None:
    pool = settings.read({"nodes": POOL}, FILE).nodes[0]
    with pytest.raises(errors.FleetError) as caught:
        machines.require_size(pool, "prod-1", sizes)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()
    machines.require_size(pool, "prod-1", {"gpu-mi300x8-1536gb": ["atl1"]})


# Messages of the cloud's API, as its plugin repeats them.
REFUSALS = {
    "a-token-that-is-refused": "GET https://api.digitalocean.com/v2/sizes: 401 Unable to authenticate you",
    "no-capacity": "POST https://api.digitalocean.com/v2/droplets: 422 Size is not available in this region.",
    "a-limit-that-is-reached": "POST https://api.digitalocean.com/v2/droplets: 422 creating this/these droplet(s) will exceed your droplet limit",
    "a-key-that-the-account-has": "POST https://api.digitalocean.com/v2/account/keys: 422 SSH Key is already in use on your account",
}


@pytest.mark.parametrize("claim", REFUSALS)
def test_a_refusal_of_the_cloud_becomes_our_message(
    claim: str, cloud: Supplied, caplog: pytest.LogCaptureFixture
) -> None:
    args = pulumi.ErrorHookArgs("", "", "prod-1", "", failed_operation="create", errors=[REFUSALS[claim]])
    assert cloud.hooks["prod-1-refused"](args) is False
    assert [f"{record.getMessage()}\n" for record in caplog.records] == [(GOLDEN / f"{claim}.txt").read_text()]


def test_an_unknown_refusal_keeps_the_cloud_s_own_words(machines: Any) -> None:
    assert cloud_machines.refusal_error("prod-1", "500 server error", machines.REFUSALS) is None


def test_a_refused_query_stops_the_preview_with_our_message(machines: Any) -> None:
    async def query() -> None:
        raise RuntimeError(REFUSALS["a-token-that-is-refused"])

    with pytest.raises(errors.FleetError) as caught:
        asyncio.run(cloud_machines.run_check("prod-1", machines.REFUSALS, query))
    assert f"{caught.value}\n" == (GOLDEN / "a-token-that-is-refused.txt").read_text()
