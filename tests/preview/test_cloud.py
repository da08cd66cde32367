"""The real Pulumi engine with recorded droplets (lab/cloud): a preview's requests to the cloud, and the protection of a droplet.

Needs `pulumi` on PATH, as test_stacks.py does; skipped with that reason where it is not. Droplets that boot are in tests/cloud.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cloud import api
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import Fleet, pulumi, with_cloud
from tests.support.source_table import FROM, LOGIN

GOLDEN = Path(__file__).parents[1] / "unit" / "golden" / "sources"
POOL: dict[str, Any] = {
    "source": "digitalocean",
    "region": api.REGION,
    "size": "gpu-mi300x8-1536gb",
    "image": 12,
    "keys": [LOGIN],
    "ssh_from": [FROM],
    "machines": {"do-1": {}},
}


class Clouded(Fleet):
    """The stack prod, whose machines come from the lab's cloud."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with_cloud(folder)
        self.token(api.TOKEN)
        self.right = yaml.safe_load(self.file.read_text())
        self.pool()

    def token(self, value: str) -> None:
        expect_success(pulumi(self.project, "config", "set", "--secret", "digitalocean:token", value, "-s", "prod"))

    def pool(self, release: dict[str, str] | None = None, gateway: dict[str, Any] | None = None, **other: Any) -> None:
        """Write the stack file, with a pool in which some keys differ, and perhaps a gateway."""
        config = {**self.right["config"], "glm-fleet:nodes": {**POOL, **other}, "glm-fleet:release": release or {}}
        config |= {"glm-fleet:gateway": gateway} if gateway else {}
        self.file.write_text(yaml.safe_dump({**self.right, "config": config}))

    def up(self, *more: str) -> str:
        """Deploy; return the output."""
        return expect_success(self.run("up", "--yes", "--skip-preview", *more))

    def droplets(self) -> dict[str, dict[str, Any]]:
        """Return the droplets of the state, with their secrets in clear."""
        return self.resources("Droplet")

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of a kind in the state by name, with their secrets in clear."""
        export = pulumi(self.project, "stack", "export", "--show-secrets", "-s", "prod").stdout
        resources = json.loads(export)["deployment"]["resources"]
        return {item["urn"].rpartition("::")[2]: item for item in resources if item["type"].endswith(f":{kind}")}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Clouded:
    return Clouded(tmp_path_factory.mktemp("clouded"))


@pytest.fixture(scope="module")
def up(fleet: Clouded) -> Clouded:
    """The stack, deployed as it should be; each test leaves it so."""
    fleet.pool()
    fleet.up()
    return fleet


def test_a_wrong_token_stops_the_preview_in_our_form(fleet: Clouded) -> None:
    fleet.token("dop_v1_wrong")
    fleet.right = yaml.safe_load(fleet.file.read_text())
    preview = fleet.run("preview")
    fleet.token(api.TOKEN)
    fleet.right = yaml.safe_load(fleet.file.read_text())
    output = expect_failure(preview)
    assert in_order(golden("a-token-that-is-refused", "do-1"), output), output
    assert "dop_v1_wrong" not in output


@pytest.mark.parametrize(
    ("size", "verb", "claim"),
    [
        (api.GONE, ("preview",), "a-size-that-is-gone"),
        (api.SOLD_OUT, ("up", "--yes", "--skip-preview", "--continue-on-error"), "no-capacity"),
    ],
)
def test_a_size_that_the_cloud_does_not_offer_fails_in_our_form(
    size: str, verb: tuple[str, ...], claim: str, fleet: Clouded
) -> None:
    fleet.pool(size=size)
    run = fleet.run(*verb)
    fleet.pool()
    output = expect_failure(run)
    assert in_order(golden(claim, "do-1"), output), output
    assert "Traceback" not in output


def test_a_second_up_changes_nothing(up: Clouded) -> None:
    up.up("--expect-no-changes")


def test_the_host_key_is_a_secret_in_the_state(up: Clouded) -> None:
    export = pulumi(up.project, "stack", "export", "-s", "prod").stdout
    assert "PRIVATE KEY" not in export
    assert "PRIVATE KEY" in json.dumps(up.droplets()["do-1"]["outputs"]["userData"])


def test_a_gateway_opens_its_ports_in_firewalls_and_changes_no_droplet(up: Clouded) -> None:
    before = droplet_state(up)
    gateway = {"nodes": ["do-1"], "name": "glm.example.com", "clients_from": ["198.51.100.0/24"]}
    up.pool(gateway=gateway)
    preview = expect_success(up.run("preview"))
    assert "open in firewalls of yours" not in preview
    up.up()
    up.up("--expect-no-changes")
    firewalls = {name: item["inputs"] for name, item in up.resources("Firewall").items()}
    opened = {
        name: {rule["portRange"]: rule.get("sourceAddresses") or rule.get("sourceTags") for rule in one["inboundRules"]}
        for name, one in firewalls.items()
    }
    tag = "glm-fleet:prod:digitalocean"
    assert opened == {
        "digitalocean": {"22": [FROM], "8443": [tag]},
        "digitalocean-do-1": {"443": ["198.51.100.0/24"]},
    }
    assert firewalls["digitalocean-do-1"]["dropletIds"] == [int(up.droplets()["do-1"]["id"])]
    assert up.resources("Gateway")["do-1"]["inputs"]["vars"]["gateway_address"] == api.INSIDE
    assert droplet_state(up) == before
    up.pool(gateway=gateway, release={"gateway": "a test"})
    up.up()
    up.pool()
    up.up()
    assert [*up.resources("Firewall")] == ["digitalocean"]


def test_another_login_and_another_image_are_reported_and_change_no_droplet(up: Clouded) -> None:
    before = droplet_state(up)
    up.pool(user="ops", image=13)
    output = up.up()
    assert in_order(golden("another-image-and-login", "do-1"), output), output
    assert droplet_state(up) == before
    up.pool()
    up.up()


def test_a_preview_refuses_to_replace_a_protected_droplet(up: Clouded) -> None:
    up.pool(region="nyc2")
    preview = up.run("preview")
    up.pool()
    assert "marked for protection" in expect_failure(preview)


def test_an_update_replaces_a_released_droplet_and_all_of_its_resources(up: Clouded) -> None:
    up.pool(release={"do-1": "another image"})
    up.up()
    up.pool(release={"do-1": "another image"}, image=13)
    output = up.up("--replace", "**:Droplet::do-1")
    assert up.droplets()["do-1"]["inputs"]["image"] == "13"
    assert "+-6 replaced" in output, output
    assert output.index("Droplet do-1 deleted original") < output.index("Droplet do-1 creating replacement")


def droplet_state(up: Clouded) -> tuple[Any, ...]:
    """Return the droplet's part of the state."""
    droplet = up.droplets()["do-1"]
    return tuple(droplet[part] for part in ("id", "created", "inputs", "outputs"))


def golden(claim: str, node: str) -> list[str]:
    """Return the lines of a golden message, for another machine."""
    return (GOLDEN / f"{claim}.txt").read_text().replace("prod-1", node).splitlines()


def in_order(lines: list[str], output: str) -> bool:
    """Return whether the output has the lines in this order, at any indent."""
    at = 0
    for line in lines:
        at = output.find(line.strip(), at)
        if at < 0:
            return False
    return True
