"""What the sources of all clouds share: the mistakes in their part of a stack file, user data, and what is said of a cloud's refusal.

Messages are compared with golden/sources/.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.sources import cloud_machines
from fleet.stack import settings
from tests.support.pulumi_mocks import FILE, supply
from tests.support.source_table import LOGIN, POOL

GOLDEN = Path(__file__).parent / "golden" / "sources"
REMOVE = object()
# claim → the keys of the right pool that are otherwise
MISTAKES: dict[str, dict[str, Any]] = {
    "ssh-from-everywhere": {"ssh_from": ["192.0.2.0/24", "0.0.0.0/0"]},
    "ssh-from-everywhere-of-ipv6": {"ssh_from": ["::/0"]},
    "ssh-from-half-of-the-internet": {"ssh_from": ["128.0.0.0/1"]},
    "ssh-from-a-host-of-a-range": {"ssh_from": ["192.0.2.7/24"]},
    "ssh-from-ipv6": {"ssh_from": ["2001:db8::/32"]},
    "ssh-from-nowhere": {"ssh_from": []},
    "no-ssh-from": {"ssh_from": REMOVE},
    "no-keys": {"keys": REMOVE},
    "a-private-key": {"keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]},
    "root-logs-in": {"user": "root"},
    "an-image-by-name": {"image": "gpu-amd-base"},
    "an-image-of-a-machine-by-name": {"machines": {"prod-1": {"image": "ubuntu-24-04-x64"}}},
    "an-endpoint-that-is-no-url": {"endpoint": "api.devcloud.amd.com"},
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_told(claim: str) -> None:
    told = {key: value for key, value in {**POOL, **MISTAKES[claim]}.items() if value is not REMOVE}
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": told}, FILE)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_two_pools_of_one_cloud_need_a_name_each() -> None:
    other = {**POOL, "machines": {"prod-2": {}}}
    with pytest.raises(errors.SettingsError) as caught:
        settings.read({"nodes": [POOL, other]}, FILE)
    assert f"{caught.value}\n" == (GOLDEN / "two-pools-of-one-name.txt").read_text()
    settings.read({"nodes": [POOL, {**other, "name": "west"}]}, FILE)


@pytest.mark.parametrize(("machine", "gpus"), [({}, 8), ({"size": "gpu-mi300x1-192gb"}, 1), ({"gpus": 2}, 2)])
def test_a_size_tells_how_many_gpus_a_machine_has_unless_it_says_so_itself(machine: dict[str, Any], gpus: int) -> None:
    assert settings.read({"nodes": {**POOL, "machines": {"prod-1": machine}}}, FILE).gpus("prod-1") == gpus


def test_the_user_data_gives_the_host_key_and_one_login_and_nothing_more() -> None:
    pool: Any = settings.read({"nodes": POOL}, FILE).nodes[0]
    text = cloud_machines.cloud_config(pool, "ssh-ed25519 AAAA", "PRIVATE")
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config"
    assert json.loads(rest) == {
        "users": [
            {
                "name": "fleet",
                "ssh_authorized_keys": [LOGIN],
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
                "lock_passwd": True,
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": "PRIVATE", "ed25519_public": "ssh-ed25519 AAAA"},
    }


def test_what_a_machine_is_made_of_tells_image_and_login_apart_and_no_host_key() -> None:
    def of(**told: Any) -> dict[str, str]:
        pool: Any = settings.read({"nodes": {**POOL, **told}}, FILE).nodes[0]
        return cloud_machines.creation_tags(pool, pool.setting("prod-1", "image"))

    assert of() == of(region="nyc2", ssh_from=["192.0.2.128/25"])
    assert of(image=1)["login"] == of()["login"]
    assert of(user="ops")["image"] == of()["image"]
    assert {*of().values()} & {*of(image=1, user="ops").values()} == set()


def test_a_change_that_reaches_no_machine_is_told_with_how_to_replace_it(caplog: pytest.LogCaptureFixture) -> None:
    made = supply(POOL).of("Droplet")["prod-1"].inputs["tags"]
    caplog.clear()
    supply({**POOL, "user": "ops", "image": 1}, changed={"Droplet": {"tags": made}})
    assert [f"{record.getMessage()}\n" for record in caplog.records] == [
        (GOLDEN / "another-image-and-login.txt").read_text()
    ]


def test_a_machine_that_is_made_as_the_stack_says_is_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    supply(POOL)
    assert not caplog.records


def test_an_sdk_that_is_missing_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pulumi_digitalocean", None)
    monkeypatch.delitem(sys.modules, "fleet.sources.digitalocean.machines", raising=False)
    with pytest.raises(errors.FleetError) as caught:
        supply(POOL)
    assert f"{caught.value}\n" == (GOLDEN / "no-sdk.txt").read_text()
