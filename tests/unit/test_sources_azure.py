"""The source azure against the SDK's own classes: exposure, image, protection, host key; and the messages of its refusals.

Messages are compared with golden/sources/.
"""

import base64
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.sources import cloud_machines
from fleet.stack import settings
from tests.support.pulumi_mocks import FILE, PRIVATE, SECRET, Declared, Supplied, public, supply
from tests.support.source_table import FROM, GATEWAY, SOURCES

GOLDEN = Path(__file__).parent / "golden" / "sources"
GALLERY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/ubuntu/versions/1.2.3"
POOL = SOURCES["azure"].nodes(**{"prod-1": {}, "prod-2": {"zone": "2", "image": GALLERY, "disk_gb": 512}})
SSH = SOURCES["ssh"].nodes(**{"colo-1": {}})


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.azure.machines")


@pytest.fixture(scope="module")
def cloud() -> Supplied:
    return supply(POOL)


def machine(cloud: Supplied, name: str = "prod-1") -> Declared:
    return cloud.of("VirtualMachine")[name]


def test_only_ssh_from_the_named_ranges_is_allowed_in(cloud: Supplied) -> None:
    (group,) = cloud.of("NetworkSecurityGroup").values()
    rules = sorted(group.inputs["securityRules"], key=lambda rule: rule["priority"])
    assert [(rule["access"], rule["direction"], rule["protocol"]) for rule in rules] == [
        ("Allow", "Inbound", "Tcp"),
        ("Deny", "Inbound", "*"),
    ]
    assert (rules[0]["sourceAddressPrefixes"], rules[0]["destinationPortRange"]) == ([FROM], "22")
    assert (rules[1]["sourceAddressPrefix"], rules[1]["destinationPortRange"], rules[1]["priority"]) == ("*", "*", 4096)


def test_a_gateway_opens_its_port_to_the_clients_on_its_own_machine_and_the_proxies_port_inside_the_subnet() -> None:
    cloud = supply(POOL, gateway=GATEWAY)
    (group,) = cloud.of("NetworkSecurityGroup").values()
    ssh, clients, proxies, nothing = sorted(group.inputs["securityRules"], key=lambda rule: rule["priority"])
    assert (ssh["name"], nothing["access"]) == ("ssh", "Deny")
    shared = {"access": "Allow", "direction": "Inbound", "protocol": "Tcp", "sourcePortRange": "*"}
    assert clients == {
        **shared,
        "name": "clients-443",
        "priority": 200,
        "destinationPortRange": "443",
        "sourceAddressPrefixes": ["198.51.100.0/24"],
        "destinationApplicationSecurityGroups": [{"id": "azure-gateways-id"}],
    }
    assert proxies == {
        **shared,
        "name": "proxies-8443",
        "priority": 201,
        "destinationPortRange": "8443",
        "sourceAddressPrefixes": ["10.42.0.0/24"],
        "destinationAddressPrefix": "*",
    }
    groups = {
        name: interface.inputs["ipConfigurations"][0].get("applicationSecurityGroups")
        for name, interface in cloud.of("NetworkInterface").items()
    }
    assert groups == {"prod-1": [{"id": "azure-gateways-id"}], "prod-2": None}
    assert not cloud.of("ApplicationSecurityGroup")["azure-gateways"].protected


def test_the_gateways_of_another_source_reach_the_proxies_from_the_named_addresses() -> None:
    nodes = [SSH, {**POOL, "gateways_from": ["192.0.2.11/32"]}]
    cloud = supply(nodes, gateway={**GATEWAY, "nodes": ["colo-1"]})
    (group,) = cloud.of("NetworkSecurityGroup").values()
    opened = {rule["name"]: rule.get("sourceAddressPrefixes") for rule in group.inputs["securityRules"]}
    assert opened == {"ssh": [FROM], "proxies-8443": ["192.0.2.11/32"], "nothing-else": None}
    assert not cloud.of("ApplicationSecurityGroup")


def test_a_proxy_can_listen_only_on_the_address_in_the_subnet(cloud: Supplied) -> None:
    assert cloud.inside == dict.fromkeys(("prod-1", "prod-2"), ("azure", "10.42.0.8", True))


def test_a_machine_is_in_a_subnet_with_the_security_group(cloud: Supplied) -> None:
    (subnet,) = cloud.of("Subnet").values()
    assert subnet.inputs["networkSecurityGroup"] == {"id": "azure-id"}
    for name, interface in cloud.of("NetworkInterface").items():
        (address,) = interface.inputs["ipConfigurations"]
        assert address["subnet"]["id"] == "azure-id"
        assert machine(cloud, name).inputs["networkProfile"]["networkInterfaces"][0]["id"] == f"{name}-id"


def test_a_machine_has_the_size_the_zone_and_the_image_that_the_stack_names(cloud: Supplied) -> None:
    first, second = (machine(cloud, name).inputs for name in ("prod-1", "prod-2"))
    assert first["hardwareProfile"] == {"vmSize": "Standard_ND96isr_MI300X_v5"}
    image = {"publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2404-rocm", "version": "24.04.2026080101"}
    assert first["storageProfile"]["imageReference"] == image
    assert "zones" not in first
    assert second["zones"] == ["2"]
    assert second["storageProfile"]["imageReference"] == {"id": GALLERY}
    assert second["storageProfile"]["osDisk"]["diskSizeGB"] == 512


@pytest.mark.parametrize(
    "image",
    ["microsoft-dsvm:ubuntu-hpc:2404-rocm:latest", "microsoft-dsvm:ubuntu-hpc:2404-rocm", GALLERY.rpartition("/")[0]],
)
def test_an_image_that_moves_is_refused(image: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": {**POOL, "image": image}}, FILE)
    golden = (GOLDEN / "an-image-of-azure-that-moves.txt").read_text()
    assert f"{caught.value}\n" == golden.replace("IMAGE", image)


def test_the_host_key_is_in_the_custom_data_and_pinned(cloud: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = base64.b64decode(profile(cloud, name)["customData"]).decode()
        keys = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert keys == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert cloud.machines[name]["host_key"] == public(name)


def test_the_custom_data_is_a_secret_and_no_password_logs_in(cloud: Supplied) -> None:
    assert SECRET in json.dumps(machine(cloud).inputs["osProfile"])
    assert profile(cloud, "prod-1")["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in profile(cloud, "prod-1")


def test_a_change_that_would_replace_a_machine_is_ignored_and_the_machine_protected(cloud: Supplied) -> None:
    assert machine(cloud).ignored == ["osProfile", "storageProfile.imageReference", "tags"]
    for kind in ("VirtualMachine", "NetworkInterface", "PublicIPAddress", "HostKey", "Subnet", "NetworkSecurityGroup"):
        assert all(resource.protected for resource in cloud.of(kind).values())


def test_no_resource_is_protected_once_all_machines_are_released() -> None:
    released = supply(POOL, release={"prod-1": "mainboard", "prod-2": "mainboard"})
    assert not [key for key, resource in released.resources.items() if resource.protected]


def test_the_place_of_a_machine_is_its_location_and_its_zone(cloud: Supplied) -> None:
    places = [machine.place for machine in cloud.by_machine.values()]
    assert places == [{"zone": "francecentral"}, {"zone": "francecentral-2"}]


REFUSALS = {
    "azure-credentials-that-are-refused": "azidentity: DefaultAzureCredential authentication failed: AADSTS7000215: Invalid client secret provided.",
    "azure-no-quota": 'Code="OperationNotAllowed" Message="Operation could not be completed as it results in exceeding approved standardNDISv5MI300XFamily Cores quota."',
    "azure-no-capacity": 'Code="AllocationFailed" Message="Allocation failed. We do not have sufficient capacity for the requested VM size in this region."',
}


@pytest.mark.parametrize("claim", REFUSALS)
def test_a_refusal_of_the_cloud_becomes_our_message(machines: Any, claim: str) -> None:
    message = cloud_machines.refusal_error("prod-1", REFUSALS[claim], machines.REFUSALS)
    assert f"{message}\n" == (GOLDEN / f"{claim}.txt").read_text()


def profile(cloud: Supplied, name: str) -> dict[str, Any]:
    """Return the input of the machine's first boot, secrets decrypted."""
    value = machine(cloud, name).inputs["osProfile"]
    plain = value.get("value", value)
    data = plain["customData"]
    return {**plain, "customData": data["value"] if isinstance(data, dict) else data}
