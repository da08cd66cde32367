"""The real engine with droplets that are only remembered (lab/cloud): what a preview asks the cloud, and what protects a droplet.

Needs `pulumi` on PATH, as test_stacks.py does; skipped with that reason where it is not. Droplets that boot are in tests/cloud.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cloud import api
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

    def token(self, told: str) -> None:
        assert (
            pulumi(self.project, "config", "set", "--secret", "digitalocean:token", told, "-s", "prod").returncode == 0
        )

    def pool(self, release: dict[str, str] | None = None, **other: Any) -> None:
        """Write the stack file, with a pool that has some keys otherwise."""
        config = {**self.right["config"], "glm-fleet:nodes": {**POOL, **other}, "glm-fleet:release": release or {}}
        self.file.write_text(yaml.safe_dump({**self.right, "config": config}))

    def up(self, *more: str) -> str:
        """Deploy; return what was told."""
        code, told = self.run("up", "--yes", "--skip-preview", *more)
        assert code == 0, told
        return told

    def droplets(self) -> dict[str, dict[str, Any]]:
        """The droplets of the state, secrets opened."""
        export = pulumi(self.project, "stack", "export", "--show-secrets", "-s", "prod").stdout
        resources = json.loads(export)["deployment"]["resources"]
        return {found["urn"].rpartition("::")[2]: found for found in resources if found["type"].endswith(":Droplet")}


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
    code, told = fleet.run("preview")
    fleet.token(api.TOKEN)
    fleet.right = yaml.safe_load(fleet.file.read_text())
    assert code != 0
    assert in_order(golden("a-token-that-is-refused", "do-1"), told), told
    assert "dop_v1_wrong" not in told


@pytest.mark.parametrize(
    ("size", "verb", "claim"),
    [
        (api.GONE, ("preview",), "a-size-that-is-gone"),
        (api.SOLD_OUT, ("up", "--yes", "--skip-preview", "--continue-on-error"), "no-capacity"),
    ],
)
def test_a_size_that_cannot_be_had_is_told_in_our_form(
    size: str, verb: tuple[str, ...], claim: str, fleet: Clouded
) -> None:
    fleet.pool(size=size)
    code, told = fleet.run(*verb)
    fleet.pool()
    assert code != 0
    assert in_order(golden(claim, "do-1"), told), told
    assert "Traceback" not in told


def test_a_second_up_changes_nothing(up: Clouded) -> None:
    up.up("--expect-no-changes")


def test_the_host_key_is_a_secret_in_the_state(up: Clouded) -> None:
    export = pulumi(up.project, "stack", "export", "-s", "prod").stdout
    assert "PRIVATE KEY" not in export
    assert "PRIVATE KEY" in json.dumps(up.droplets()["do-1"]["outputs"]["userData"])


def test_another_login_and_another_image_change_no_droplet_and_are_told(up: Clouded) -> None:
    before = made(up)
    up.pool(user="ops", image=13)
    told = up.up()
    assert in_order(golden("another-image-and-login", "do-1"), told), told
    assert made(up) == before
    up.pool()
    up.up()


def test_a_droplet_that_is_protected_is_not_replaced(up: Clouded) -> None:
    up.pool(region="nyc2")
    code, told = up.run("preview")
    up.pool()
    assert code != 0
    assert "marked for protection" in told


def test_a_released_droplet_is_made_anew_of_the_new_settings_and_all_that_stands_on_it(up: Clouded) -> None:
    up.pool(release={"do-1": "another image"})
    up.up()
    up.pool(release={"do-1": "another image"}, image=13)
    told = up.up("--replace", "**:Droplet::do-1")
    assert up.droplets()["do-1"]["inputs"]["image"] == "13"
    assert "+-6 replaced" in told, told
    assert told.index("Droplet do-1 deleted original") < told.index("Droplet do-1 creating replacement")


def made(up: Clouded) -> tuple[Any, ...]:
    """Return what the state holds of the droplet."""
    found = up.droplets()["do-1"]
    return tuple(found[part] for part in ("id", "created", "inputs", "outputs"))


def golden(claim: str, node: str) -> list[str]:
    """Return the lines of a message, as it is told of another machine."""
    return (GOLDEN / f"{claim}.txt").read_text().replace("prod-1", node).splitlines()


def in_order(lines: list[str], told: str) -> bool:
    """Whether the lines stand in what the engine told, one after the other; it indents them."""
    at = 0
    for line in lines:
        at = told.find(line.strip(), at)
        if at < 0:
            return False
    return True
