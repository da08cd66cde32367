"""One stack for the whole session, beside that of tests/e2e: every fault happens to it and leaves it converged."""

from collections.abc import Iterator

import pytest

from tests.support.e2e import Road, stand
from tests.support.environment import expect_success


@pytest.fixture(scope="session")
def converged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A road whose stack is up."""
    with stand(tmp_path_factory.mktemp("faults") / "glm-fleet", lab="glm-faults") as road:
        expect_success(road.up())
        yield road
