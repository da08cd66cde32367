"""The source azure against the SDK's own classes: exposure, image, protection, host key; and what is said when the cloud refuses.

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
from tests.support.source_table import FROM, SOURCES

GOLDEN = Path(__file__).parent / "golden" / "sources"
GALLERY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/ubuntu/versions/1.2.3"
POOL = SOURCES["azure"].nodes(**{"prod-1": {}, "prod-2": {"zone": "2", "image": GALLERY, "disk_gb": 512}})


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.azure.machines")


@pytest.fixture(scope="module")
def made() -> Supplied:
    return supply(POOL)


def machine(made: Supplied, name: str = "prod-1") -> Declared:
    return made.of("VirtualMachine")[name]


def test_ssh_from_the_named_ranges_is_all_that_comes_in(made: Supplied) -> None:
    (group,) = made.of("NetworkSecurityGroup").values()
    rules = sorted(group.inputs["securityRules"], key=lambda rule: rule["priority"])
    assert [(rule["access"], rule["direction"], rule["protocol"]) for rule in rules] == [
        ("Allow", "Inbound", "Tcp"),
        ("Deny", "Inbound", "*"),
    ]
    assert (rules[0]["sourceAddressPrefixes"], rules[0]["destinationPortRange"]) == ([FROM], "22")
    assert (rules[1]["sourceAddressPrefix"], rules[1]["destinationPortRange"], rules[1]["priority"]) == ("*", "*", 4096)


def test_a_machine_is_in_a_subnet_that_was_closed_before(made: Supplied) -> None:
    (subnet,) = made.of("Subnet").values()
    assert subnet.inputs["networkSecurityGroup"] == {"id": "azure-id"}
    for name, interface in made.of("NetworkInterface").items():
        (address,) = interface.inputs["ipConfigurations"]
        assert address["subnet"]["id"] == "azure-id"
        assert machine(made, name).inputs["networkProfile"]["networkInterfaces"][0]["id"] == f"{name}-id"


def test_a_machine_is_of_the_size_the_zone_and_the_very_image_that_the_stack_names(made: Supplied) -> None:
    one, two = (machine(made, name).inputs for name in ("prod-1", "prod-2"))
    assert one["hardwareProfile"] == {"vmSize": "Standard_ND96isr_MI300X_v5"}
    assert one["storageProfile"]["imageReference"] == {
        "publisher": "microsoft-dsvm",
        "offer": "ubuntu-hpc",
        "sku": "2404-rocm",
        "version": "24.04.2026080101",
    }
    assert "zones" not in one
    assert two["zones"] == ["2"]
    assert two["storageProfile"]["imageReference"] == {"id": GALLERY}
    assert two["storageProfile"]["osDisk"]["diskSizeGB"] == 512


@pytest.mark.parametrize(
    "image",
    ["microsoft-dsvm:ubuntu-hpc:2404-rocm:latest", "microsoft-dsvm:ubuntu-hpc:2404-rocm", GALLERY.rpartition("/")[0]],
)
def test_an_image_that_moves_is_refused(image: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": {**POOL, "image": image}}, FILE)
    golden = (GOLDEN / "an-image-of-azure-that-moves.txt").read_text()
    assert f"{caught.value}\n" == golden.replace("IMAGE", image)


def test_the_host_key_goes_into_the_custom_data_and_is_pinned(made: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = base64.b64decode(profile(made, name)["customData"]).decode()
        told = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert told == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert made.machines[name]["host_key"] == public(name)


def test_the_custom_data_is_a_secret_and_no_password_logs_in(made: Supplied) -> None:
    assert SECRET in json.dumps(machine(made).inputs["osProfile"])
    told = profile(made, "prod-1")
    assert told["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in told


def test_what_would_replace_a_machine_is_ignored_and_the_machine_protected(made: Supplied) -> None:
    assert machine(made).ignored == ["osProfile", "storageProfile.imageReference", "tags"]
    for kind in ("VirtualMachine", "NetworkInterface", "PublicIPAddress", "HostKey", "Subnet", "NetworkSecurityGroup"):
        assert all(found.protected for found in made.of(kind).values())


def test_when_all_are_released_nothing_is_protected() -> None:
    released = supply(POOL, release={"prod-1": "mainboard", "prod-2": "mainboard"})
    assert not [key for key, found in released.resources.items() if found.protected]


def test_where_a_machine_stands_is_its_location_and_its_zone(made: Supplied) -> None:
    told = [machine.place for machine in made.made.values()]
    assert told == [{"zone": "francecentral"}, {"zone": "francecentral-2"}]


REFUSED = {
    "azure-credentials-that-are-refused": "azidentity: DefaultAzureCredential authentication failed: AADSTS7000215: Invalid client secret provided.",
    "azure-no-quota": 'Code="OperationNotAllowed" Message="Operation could not be completed as it results in exceeding approved standardNDISv5MI300XFamily Cores quota."',
    "azure-no-capacity": 'Code="AllocationFailed" Message="Allocation failed. We do not have sufficient capacity for the requested VM size in this region."',
}


@pytest.mark.parametrize("claim", REFUSED)
def test_a_refusal_of_the_cloud_is_told_in_our_form(machines: Any, claim: str) -> None:
    told = cloud_machines.refusal_error("prod-1", REFUSED[claim], machines.REFUSALS)
    assert f"{told}\n" == (GOLDEN / f"{claim}.txt").read_text()


def profile(made: Supplied, name: str) -> dict[str, Any]:
    """Return what the machine's first boot is given, secrets opened."""
    told = machine(made, name).inputs["osProfile"]
    opened = told.get("value", told)
    data = opened["customData"]
    return {**opened, "customData": data["value"] if isinstance(data, dict) else data}
