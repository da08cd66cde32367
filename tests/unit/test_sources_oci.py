"""The source oci against the SDK's own classes: exposure, image, protection, host key; and what is said when the cloud refuses.

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
from tests.support.source_table import FROM, LOGIN, SOURCES

GOLDEN = Path(__file__).parent / "golden" / "sources"
POOL = SOURCES["oci"].nodes(**{"prod-1": {}, "prod-2": {"availability_domain": "Uocm:PHX-AD-2", "disk_gb": 1024}})


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.oci.machines")


@pytest.fixture(scope="module")
def made() -> Supplied:
    return supply(POOL)


def instance(made: Supplied, name: str = "prod-1") -> Declared:
    return made.of("Instance")[name]


def test_ssh_from_the_named_ranges_is_the_only_service_that_is_reached() -> None:
    two = supply({**POOL, "ssh_from": [FROM, "192.0.2.9/32"]})
    rules = [found.inputs for found in two.of("NetworkSecurityGroupSecurityRule").values()]
    come_in = sorted(rule["source"] for rule in rules if rule["direction"] == "INGRESS" and rule["protocol"] == "6")
    assert come_in == [FROM, "192.0.2.9/32"]
    for rule in rules:
        if rule["protocol"] == "6":
            assert rule["tcpOptions"] == {"destinationPortRange": {"min": 22, "max": 22}}
        elif rule["direction"] == "INGRESS":
            assert (rule["protocol"], rule["icmpOptions"]) == ("1", {"type": 3, "code": 4}), "path MTU, and no other"
    (nothing,) = two.of("SecurityList").values()
    assert not nothing.inputs.get("ingressSecurityRules")
    assert next(iter(two.of("Subnet").values())).inputs["securityListIds"] == ["oci-id"]


def test_the_rules_are_there_before_the_machine_is(made: Supplied) -> None:
    after = {urn.rpartition("::")[2] for urn in instance(made).request.dependencies}
    assert set(made.of("NetworkSecurityGroupSecurityRule")) <= after
    assert instance(made).inputs["createVnicDetails"]["nsgIds"] == ["oci-id"]


def test_a_machine_is_of_the_shape_the_domain_and_the_very_image_that_the_stack_names(made: Supplied) -> None:
    one, two = (instance(made, name).inputs for name in ("prod-1", "prod-2"))
    assert (one["shape"], one["availabilityDomain"]) == ("BM.GPU.MI300X.8", "Uocm:PHX-AD-1")
    assert one["sourceDetails"] == {"sourceType": "image", "sourceId": "ocid1.image.oc1.phx.aaaa"}
    assert (two["availabilityDomain"], two["sourceDetails"]["bootVolumeSizeInGbs"]) == ("Uocm:PHX-AD-2", "1024")


@pytest.mark.parametrize("image", ["Canonical-Ubuntu-24.04", "latest", "ocid1.instance.oc1.phx.aaaa"])
def test_an_image_by_another_thing_than_its_id_is_refused(image: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": {**POOL, "image": image}}, FILE)
    assert f"{caught.value}\n" == (GOLDEN / "an-image-of-oci-by-name.txt").read_text().replace("IMAGE", image)


def test_the_host_key_goes_into_the_user_data_and_is_pinned(made: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = base64.b64decode(metadata(made, name)["user_data"]).decode()
        told = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert told == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert made.machines[name]["host_key"] == public(name)


def test_the_user_data_is_a_secret_and_is_read_with_a_header_only(made: Supplied) -> None:
    assert SECRET in json.dumps(instance(made).inputs["metadata"])
    assert metadata(made, "prod-1").keys() == {"user_data", "ssh_authorized_keys"}
    assert metadata(made, "prod-1")["ssh_authorized_keys"] == LOGIN
    assert instance(made).inputs["instanceOptions"] == {"areLegacyImdsEndpointsDisabled": True}


def test_what_would_replace_a_machine_is_ignored_and_the_machine_protected(made: Supplied) -> None:
    assert instance(made).ignored == ["freeformTags", "metadata", "sourceDetails"]
    for kind in ("Instance", "HostKey", "Vcn", "Subnet", "NetworkSecurityGroup", "SecurityList", "RouteTable"):
        assert all(found.protected for found in made.of(kind).values())


def test_another_range_may_still_make_a_rule_anew(made: Supplied) -> None:
    assert not any(found.protected for found in made.of("NetworkSecurityGroupSecurityRule").values())


def test_bare_metal_is_given_half_an_hour_and_stands_in_its_domain(made: Supplied) -> None:
    assert made.machines["prod-1"]["wait"] == 1800
    assert [machine.place for machine in made.made.values()] == [{"zone": "Uocm:PHX-AD-1"}, {"zone": "Uocm:PHX-AD-2"}]


@pytest.mark.parametrize(
    ("claim", "domains", "gpus"),
    [
        ("a-domain-that-does-not-exist", ["Uocm:PHX-AD-2", "Uocm:PHX-AD-3"], None),
        ("a-limit-of-gpus-that-is-too-low", ["Uocm:PHX-AD-1"], 0.0),
    ],
)
def test_what_cannot_be_made_is_told_before_it_is_tried(
    machines: Any, claim: str, domains: list[str], gpus: float | None
) -> None:
    pool: Any = settings.read({"nodes": POOL}, FILE).nodes[0]
    with pytest.raises(errors.FleetError) as caught:
        machines.require_capacity(pool, "prod-1", domains, gpus)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()
    machines.require_capacity(pool, "prod-1", ["Uocm:PHX-AD-1"], 8.0)


REFUSED = {
    "oci-credentials-that-are-refused": "Error: 401-NotAuthenticated, The required information to complete authentication was not provided",
    "oci-no-limit": "Error: 400-LimitExceeded, The following service limits were exceeded: gpu-mi300x-count.",
    "oci-no-capacity": "Error: 500-InternalError, Out of host capacity.",
}


@pytest.mark.parametrize("claim", REFUSED)
def test_a_refusal_of_the_cloud_is_told_in_our_form(machines: Any, claim: str) -> None:
    told = cloud_machines.refusal_error("prod-1", REFUSED[claim], machines.REFUSALS)
    assert f"{told}\n" == (GOLDEN / f"{claim}.txt").read_text()


def metadata(made: Supplied, name: str) -> dict[str, Any]:
    """Return what the machine's first boot is given, secrets opened."""
    told = instance(made, name).inputs["metadata"]
    opened = told.get("value", told)
    return {key: value["value"] if isinstance(value, dict) else value for key, value in opened.items()}
