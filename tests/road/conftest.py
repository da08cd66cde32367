"""One road for the whole session: the tests of this folder share a stack that is up, and each leaves it converged."""

import secrets
from collections.abc import Iterator

import pytest

from tests.road.road import Road, stand


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    with stand(tmp_path_factory.mktemp("road") / "glm-fleet", lab="glm-test") as road:
        road.set_secret("weights_token", f"hf_{secrets.token_hex(20)}")  # the lab's hub asks for none, and takes any
        yield road


@pytest.fixture(scope="session")
def first_up(road: Road) -> str:
    """The text of the first `pulumi up` on bare nodes."""
    done = road.up()
    assert done.returncode == 0, done.stdout
    return done.stdout
