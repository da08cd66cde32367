"""One road for the change matrix: a node with a replica (some rows give it two), made when the first row asks for it."""

import pathlib
from collections.abc import Iterator

import pytest
import yaml

from tests.support.e2e import STACK, Road
from tests.support.testbed import NODE, Bed

# Older than what is there: two rows ask for the newer.
OLDER = {"rocm_driver_version": "1:6.16.13.30300300-*", "docker_packages": ["docker.io=24.0.7*"]}
# What a change does to a machine is asked of the machine; that it still sees, the tests of the road ask.
PROBES = {"cases": ["refuses-no-key"]}


def prepare(road: Road) -> None:
    """Write the stack file of the matrix."""
    file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"
    told = yaml.safe_load(file.read_text())
    told["config"]["glm-fleet:nodes"]["machines"] = {NODE: {"system": "ubuntu-24.04", "gpus": 8}}
    told["config"]["glm-fleet:probes"] = PROBES
    told["config"]["glm-fleet:vars"] |= OLDER
    file.write_text(yaml.safe_dump(told, sort_keys=False))


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    home: pathlib.Path = tmp_path_factory.mktemp("changes") / "glm-fleet"
    road = Road(home, lab="glm-changes")
    prepare(road)
    made = road.run("bootstrap/stack.sh", STACK)
    assert made.returncode == 0, made.stdout
    bed = Bed(road)
    try:
        bed.up()
        yield bed
    finally:
        gone = road.pulumi("destroy", "--yes", "--skip-preview")
    assert gone.returncode == 0, gone.stdout
