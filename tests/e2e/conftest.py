"""One stack for the whole session: the tests of this folder share it, and each leaves it converged.

Its machines reach nothing but the lab's site, and its stack file has upstream's own addresses and one block of mirrors for them.
"""

import secrets
from collections.abc import Iterator

import pytest

from tests.support.e2e import Road, stand
from tests.support.environment import expect_success

# Role variables that the lab's stack file sets to the site's own addresses: here the roles' defaults and the mirrors lead there.
MIRRORS = {"rocm_repository_url": "rocm=packages", "transformers_repository": "git=git", "weights_endpoint": "hub=hub"}


def seal(road: Road) -> None:
    """Close every way out of the machines but the mirrors."""
    road.set("glm-fleet:nodes.sealed", "true")
    for variable, mirror in MIRRORS.items():
        road.remove(f"glm-fleet:vars.{variable}")
        kind, name = mirror.split("=")
        road.set(f"glm-fleet:mirrors.{kind}", f"http://{name}.lab.internal")


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    with stand(tmp_path_factory.mktemp("road") / "glm-fleet", lab="glm-test") as road:
        seal(road)
        road.set_secret("weights_token", f"hf_{secrets.token_hex(20)}")  # the lab's hub requires none and accepts any
        yield road


@pytest.fixture(scope="session")
def first_up(road: Road) -> str:
    """The output of the first `pulumi up` on bare nodes."""
    return expect_success(road.up())
