"""One stack with machines of two sources for the whole folder: an existing lab node, and droplets of the lab's cloud.

Needs the bootstrap (venv, Pulumi, a Docker Engine, the lab's images). The tests share the stack; each leaves it as the stack file says.
"""

import os
from collections.abc import Iterator

import pytest

from lab import site
from tests.support.cloud_stack import LAB, CloudStack


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStack]:
    home = tmp_path_factory.mktemp("cloud") / "glm-fleet"
    folder = home / ".pulumi" / "lab" / LAB
    site.remove(LAB, folder)  # of a killed run
    before = os.environ.get("FLEET_LAB_CLOUD")
    try:
        yield CloudStack(home)
    finally:
        site.remove(LAB, folder)
        assert os.environ.get("FLEET_LAB_CLOUD") == before
