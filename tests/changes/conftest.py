"""One stack for the change matrix: a node with a replica (some rows give it two), made when the first row asks for it."""

import pathlib
from collections.abc import Iterator

import pytest
import yaml

from tests.support.e2e import STACK, Road
from tests.support.environment import expect_success
from tests.support.testbed import NODE, Bed

# Not the newest: two rows ask for that.
OLDER = {"rocm_driver_version": "1:6.16.13.30300300-*", "docker_packages": ["docker.io=24.0.7*"]}
# The machine shows what a change does to it; tests/e2e checks that the model still sees.
PROBES = {"cases": ["refuses-no-key"]}


def prepare(road: Road) -> None:
    """Write the stack file of the matrix."""
    file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"
    stack = yaml.safe_load(file.read_text())
    stack["config"]["glm-fleet:nodes"]["machines"] = {NODE: {"system": "ubuntu-24.04", "gpus": 8}}
    stack["config"]["glm-fleet:gateway"]["nodes"] = [NODE]
    stack["config"]["glm-fleet:change"] = {"hold": 0, "canary": False}  # nobody asks, and there is no second machine
    stack["config"]["glm-fleet:probes"] = PROBES
    stack["config"]["glm-fleet:vars"] |= OLDER
    file.write_text(yaml.safe_dump(stack, sort_keys=False))


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    home: pathlib.Path = tmp_path_factory.mktemp("changes") / "glm-fleet"
    road = Road(home, lab="glm-changes")
    prepare(road)
    expect_success(road.run("bootstrap/stack.sh", STACK))
    bed = Bed(road)
    try:
        bed.up()
        yield bed
    finally:
        run = road.destroy()
    expect_success(run)
