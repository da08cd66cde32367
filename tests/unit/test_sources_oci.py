"""The source oci against the SDK's own classes: exposure, image, protection, host key; and the messages of its refusals.

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
from tests.support.source_table import FROM, GATEWAY, LOGIN, SOURCES

GOLDEN = Path(__file__).parent / "golden" / "sources"
POOL = SOURCES["oci"].nodes(**{"prod-1": {}, "prod-2": {"availability_domain": "Uocm:PHX-AD-2", "disk_gb": 1024}})
SSH = SOURCES["ssh"].nodes(**{"colo-1": {}})


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.oci.machines")


@pytest.fixture(scope="module")
def cloud() -> Supplied:
    return supply(POOL)


def instance(cloud: Supplied, name: str = "prod-1") -> Declared:
    return cloud.of("Instance")[name]


def test_only_ssh_from_the_named_ranges_is_allowed_in() -> None:
    two = supply({**POOL, "ssh_from": [FROM, "192.0.2.9/32"]})
    rules = [rule.inputs for rule in two.of("NetworkSecurityGroupSecurityRule").values()]
    ranges = sorted(rule["source"] for rule in rules if rule["direction"] == "INGRESS" and rule["protocol"] == "6")
    assert ranges == [FROM, "192.0.2.9/32"]
    for rule in rules:
        if rule["protocol"] == "6":
            assert rule["tcpOptions"] == {"destinationPortRange": {"min": 22, "max": 22}}
        elif rule["direction"] == "INGRESS":
            assert (rule["protocol"], rule["icmpOptions"]) == ("1", {"type": 3, "code": 4}), "path MTU, and no other"
    (empty,) = two.of("SecurityList").values()
    assert not empty.inputs.get("ingressSecurityRules")
    assert next(iter(two.of("Subnet").values())).inputs["securityListIds"] == ["oci-id"]


def opened(cloud: Supplied) -> dict[str, tuple[str, str, str, int]]:
    """Return the group, the kind and name of the source, and the port of each rule for TCP but SSH."""
    rules = {name: rule.inputs for name, rule in cloud.of("NetworkSecurityGroupSecurityRule").items()}
    ports = {name: rule["tcpOptions"]["destinationPortRange"] for name, rule in rules.items() if "tcpOptions" in rule}
    assert all(port["min"] == port["max"] for port in ports.values())
    return {
        name: (rules[name]["networkSecurityGroupId"], rules[name]["sourceType"], rules[name]["source"], port["min"])
        for name, port in ports.items()
        if port["min"] != 22
    }


def test_a_gateway_opens_its_port_to_the_clients_on_its_own_instance_and_the_proxies_port_inside_the_group() -> None:
    cloud = supply(POOL, gateway=GATEWAY)
    assert opened(cloud) == {
        "oci-clients-443-0": ("oci-gateways-id", "CIDR_BLOCK", "198.51.100.0/24", 443),
        "oci-proxies-8443-inside": ("oci-id", "NETWORK_SECURITY_GROUP", "oci-id", 8443),
    }
    groups = {name: instance(cloud, name).inputs["createVnicDetails"]["nsgIds"] for name in ("prod-1", "prod-2")}
    assert groups == {"prod-1": ["oci-id", "oci-gateways-id"], "prod-2": ["oci-id"]}
    assert not cloud.of("NetworkSecurityGroup")["oci-gateways"].protected


def test_the_gateways_of_another_source_reach_the_proxies_from_the_named_addresses() -> None:
    nodes = [SSH, {**POOL, "gateways_from": ["192.0.2.11/32"]}]
    cloud = supply(nodes, gateway={**GATEWAY, "nodes": ["colo-1"]})
    assert opened(cloud) == {"oci-proxies-8443-0": ("oci-id", "CIDR_BLOCK", "192.0.2.11/32", 8443)}


def test_a_proxy_can_listen_only_on_the_address_in_the_subnet(cloud: Supplied) -> None:
    assert cloud.inside == dict.fromkeys(("prod-1", "prod-2"), ("oci", "10.42.0.9", True))


def test_the_rules_are_created_before_the_machine(cloud: Supplied) -> None:
    dependencies = {urn.rpartition("::")[2] for urn in instance(cloud).request.dependencies}
    assert set(cloud.of("NetworkSecurityGroupSecurityRule")) <= dependencies
    assert instance(cloud).inputs["createVnicDetails"]["nsgIds"] == ["oci-id"]


def test_a_machine_has_the_shape_the_domain_and_the_image_that_the_stack_names(cloud: Supplied) -> None:
    first, second = (instance(cloud, name).inputs for name in ("prod-1", "prod-2"))
    assert (first["shape"], first["availabilityDomain"]) == ("BM.GPU.MI300X.8", "Uocm:PHX-AD-1")
    assert first["sourceDetails"] == {"sourceType": "image", "sourceId": "ocid1.image.oc1.phx.aaaa"}
    assert (second["availabilityDomain"], second["sourceDetails"]["bootVolumeSizeInGbs"]) == ("Uocm:PHX-AD-2", "1024")


@pytest.mark.parametrize("image", ["Canonical-Ubuntu-24.04", "latest", "ocid1.instance.oc1.phx.aaaa"])
def test_an_image_by_another_thing_than_its_id_is_refused(image: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": {**POOL, "image": image}}, FILE)
    assert f"{caught.value}\n" == (GOLDEN / "an-image-of-oci-by-name.txt").read_text().replace("IMAGE", image)


def test_the_host_key_is_in_the_user_data_and_pinned(cloud: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = base64.b64decode(metadata(cloud, name)["user_data"]).decode()
        keys = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert keys == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert cloud.machines[name]["host_key"] == public(name)


def test_the_user_data_is_a_secret_and_is_read_with_a_header_only(cloud: Supplied) -> None:
    assert SECRET in json.dumps(instance(cloud).inputs["metadata"])
    assert metadata(cloud, "prod-1").keys() == {"user_data", "ssh_authorized_keys"}
    assert metadata(cloud, "prod-1")["ssh_authorized_keys"] == LOGIN
    assert instance(cloud).inputs["instanceOptions"] == {"areLegacyImdsEndpointsDisabled": True}


def test_a_change_that_would_replace_a_machine_is_ignored_and_the_machine_protected(cloud: Supplied) -> None:
    assert instance(cloud).ignored == ["freeformTags", "metadata", "sourceDetails"]
    for kind in ("Instance", "HostKey", "Vcn", "Subnet", "NetworkSecurityGroup", "SecurityList", "RouteTable"):
        assert all(resource.protected for resource in cloud.of(kind).values())


def test_a_rule_may_be_replaced_for_another_range(cloud: Supplied) -> None:
    assert not any(resource.protected for resource in cloud.of("NetworkSecurityGroupSecurityRule").values())


def test_bare_metal_has_half_an_hour_to_boot_and_the_place_of_its_domain(cloud: Supplied) -> None:
    assert cloud.machines["prod-1"]["wait"] == 1800
    assert [machine.place for machine in cloud.by_machine.values()] == [
        {"zone": "Uocm:PHX-AD-1"},
        {"zone": "Uocm:PHX-AD-2"},
    ]


@pytest.mark.parametrize(
    ("claim", "domains", "gpus"),
    [
        ("a-domain-that-does-not-exist", ["Uocm:PHX-AD-2", "Uocm:PHX-AD-3"], None),
        ("a-limit-of-gpus-that-is-too-low", ["Uocm:PHX-AD-1"], 0.0),
    ],
)
def test_a_machine_that_cannot_be_created_is_refused_at_the_preview(
    machines: Any, claim: str, domains: list[str], gpus: float | None
) -> None:
    pool: Any = settings.read({"nodes": POOL}, FILE).nodes[0]
    with pytest.raises(errors.FleetError) as caught:
        machines.require_capacity(pool, "prod-1", domains, gpus)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()
    machines.require_capacity(pool, "prod-1", ["Uocm:PHX-AD-1"], 8.0)


REFUSALS = {
    "oci-credentials-that-are-refused": "Error: 401-NotAuthenticated, The required information to complete authentication was not provided",
    "oci-no-limit": "Error: 400-LimitExceeded, The following service limits were exceeded: gpu-mi300x-count.",
    "oci-no-capacity": "Error: 500-InternalError, Out of host capacity.",
}


@pytest.mark.parametrize("claim", REFUSALS)
def test_a_refusal_of_the_cloud_becomes_our_message(machines: Any, claim: str) -> None:
    message = cloud_machines.refusal_error("prod-1", REFUSALS[claim], machines.REFUSALS)
    assert f"{message}\n" == (GOLDEN / f"{claim}.txt").read_text()


def metadata(cloud: Supplied, name: str) -> dict[str, Any]:
    """Return the input of the machine's first boot, secrets decrypted."""
    inputs = instance(cloud, name).inputs["metadata"]
    entries = inputs.get("value", inputs)
    return {key: value["value"] if isinstance(value, dict) else value for key, value in entries.items()}
