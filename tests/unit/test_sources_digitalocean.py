"""The source digitalocean against the SDK's own classes: exposure, image, protection, host key; and what is said when the cloud refuses.

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
from tests.support.source_table import POOL

GOLDEN = Path(__file__).parent / "golden" / "sources"
TWO = {**POOL, "machines": {"prod-1": {}, "prod-2": {"size": "gpu-mi300x1-192gb", "region": "nyc2", "image": 7}}}


@pytest.fixture(scope="module")
def machines() -> Any:
    """The module under test. Collecting the tests does not import it: its SDK takes a second of every worker."""
    return importlib.import_module("fleet.sources.digitalocean.machines")


@pytest.fixture(scope="module")
def made() -> Supplied:
    return supply(TWO)


def droplet(made: Supplied, name: str = "prod-1") -> Declared:
    return made.of("Droplet")[name]


def test_ssh_from_the_named_ranges_is_all_that_comes_in(made: Supplied) -> None:
    (firewall,) = made.of("Firewall").values()
    assert firewall.inputs["inboundRules"] == [
        {"protocol": "tcp", "portRange": "22", "sourceAddresses": POOL["ssh_from"]}
    ]


def test_a_droplet_is_behind_the_firewall_from_its_first_moment(made: Supplied) -> None:
    (firewall,) = made.of("Firewall").values()
    (tag,) = firewall.inputs["tags"]
    for found in made.of("Droplet").values():
        assert tag in found.inputs["tags"]
        assert any(urn.endswith("firewall:Firewall::digitalocean") for urn in found.request.dependencies)


def test_a_droplet_is_of_the_size_the_region_and_the_very_image_that_the_stack_names(made: Supplied) -> None:
    told = [[found.inputs[key] for key in ("name", "size", "region", "image")] for found in made.of("Droplet").values()]
    assert told == [
        ["prod-1", "gpu-mi300x8-1536gb", "atl1", "188383823"],
        ["prod-2", "gpu-mi300x1-192gb", "nyc2", "7"],
    ]


def test_the_host_key_goes_into_the_user_data_and_is_pinned(made: Supplied) -> None:
    for name in ("prod-1", "prod-2"):
        text = droplet(made, name).inputs["userData"]["value"]
        told = json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"]
        assert told == {"ed25519_private": PRIVATE.format(name=name), "ed25519_public": public(name)}
        assert made.machines[name]["host_key"] == public(name)
        assert made.machines[name]["final_key"]["public"] != public(name)


def test_the_user_data_is_a_secret_and_holds_no_other(made: Supplied) -> None:
    value = droplet(made).inputs["userData"]
    assert SECRET in value
    assert "userData" in droplet(made).request.additionalSecretOutputs
    assert not {"token", "password", "api_key"} & set(json.loads(value["value"].partition("\n")[2]))


def test_what_would_replace_a_droplet_is_ignored_and_the_droplet_protected(made: Supplied) -> None:
    found = droplet(made)
    assert found.ignored == ["image", "sshKeys", "tags", "userData"]
    assert found.protected
    assert made.of("HostKey")["prod-1"].protected


def test_a_released_droplet_is_not_protected_and_the_firewall_is_while_another_droplet_is() -> None:
    one = supply(TWO, release={"prod-1": "mainboard"})
    assert {name: found.protected for name, found in one.of("Droplet").items()} == {"prod-1": False, "prod-2": True}
    assert all(found.protected for found in one.of("Firewall").values())
    both = supply(TWO, release={"prod-1": "mainboard", "prod-2": "mainboard"})
    assert not any(found.protected for key, found in both.resources.items())


def test_keys_that_the_account_has_are_named_and_others_are_put_there(made: Supplied) -> None:
    assert droplet(made).inputs["sshKeys"] == ["aa:bb"]
    has = supply({**POOL, "account_keys": ["11:22"]})
    assert droplet(has).inputs["sshKeys"] == ["11:22"]
    assert not has.of("SshKey")


def test_another_endpoint_is_a_provider_of_its_own_with_the_stack_s_token() -> None:
    own = supply({**POOL, "endpoint": "https://api.devcloud.amd.com"}, config={"digitalocean:token": "dop_v1_x"})
    (provider,) = own.of("digitalocean").values()
    assert provider.inputs["apiEndpoint"] == "https://api.devcloud.amd.com"
    assert (
        provider.inputs["token"] == {**provider.inputs["token"], "value": "dop_v1_x"}
        and SECRET in provider.inputs["token"]
    )
    for kind in ("Droplet", "Firewall", "Tag", "SshKey"):
        assert all("providers:digitalocean::" in found.request.provider for found in own.of(kind).values())
    assert not [
        key
        for key, found in own.resources.items()
        if key[0] != "digitalocean" and "dop_v1_x" in json.dumps(found.inputs)
    ]


def test_without_an_endpoint_the_stack_s_own_settings_of_the_plugin_hold(made: Supplied) -> None:
    assert not made.of("digitalocean")
    assert droplet(made).request.provider == ""


def test_where_a_machine_stands_is_its_region(made: Supplied) -> None:
    assert [machine.place for machine in made.made.values()] == [{"zone": "atl1"}, {"zone": "nyc2"}]


def pool() -> Any:
    return settings.read({"nodes": POOL}, FILE).nodes[0]


@pytest.mark.parametrize(
    ("claim", "sizes"),
    [
        ("a-size-that-does-not-exist", {"gpu-mi300x8-1536gb-x": ["atl1"]}),
        ("a-size-that-another-region-has", {"gpu-mi300x8-1536gb": ["nyc2", "tor1"]}),
        ("a-size-that-cannot-be-had", {"gpu-mi300x8-1536gb": []}),
    ],
)
def test_what_cannot_be_made_is_told_before_it_is_tried(machines: Any, claim: str, sizes: dict[str, list[str]]) -> None:
    with pytest.raises(errors.FleetError) as caught:
        machines.require_size(pool(), "prod-1", sizes)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_what_can_be_made_is_not_talked_about(machines: Any) -> None:
    machines.require_size(pool(), "prod-1", {"gpu-mi300x8-1536gb": ["atl1"]})


# The words are those of the cloud's API, as its plugin repeats them.
REFUSED = {
    "a-token-that-is-refused": "GET https://api.digitalocean.com/v2/sizes: 401 Unable to authenticate you",
    "no-capacity": "POST https://api.digitalocean.com/v2/droplets: 422 Size is not available in this region.",
    "a-limit-that-is-reached": "POST https://api.digitalocean.com/v2/droplets: 422 creating this/these droplet(s) will exceed your droplet limit",
    "a-key-that-the-account-has": "POST https://api.digitalocean.com/v2/account/keys: 422 SSH Key is already in use on your account",
}


@pytest.mark.parametrize("claim", REFUSED)
def test_a_refusal_of_the_cloud_is_told_in_our_form(
    claim: str, made: Supplied, caplog: pytest.LogCaptureFixture
) -> None:
    args = pulumi.ErrorHookArgs(
        urn="", id="", name="prod-1", type="", failed_operation="create", errors=[REFUSED[claim]]
    )
    assert made.hooks["prod-1-refused"](args) is False
    assert [f"{record.getMessage()}\n" for record in caplog.records] == [(GOLDEN / f"{claim}.txt").read_text()]


def test_a_refusal_that_we_do_not_know_is_left_to_the_cloud_s_own_words(machines: Any) -> None:
    assert cloud_machines.refusal_error("prod-1", "500 server error", machines.REFUSALS) is None


def test_a_question_that_is_refused_stops_the_preview_in_our_form(machines: Any) -> None:
    async def ask() -> None:
        raise RuntimeError(REFUSED["a-token-that-is-refused"])

    async def run() -> None:
        await cloud_machines.run_check("prod-1", machines.REFUSALS, ask)

    with pytest.raises(errors.FleetError) as caught:
        asyncio.run(run())
    assert f"{caught.value}\n" == (GOLDEN / "a-token-that-is-refused.txt").read_text()
