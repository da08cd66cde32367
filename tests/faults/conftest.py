"""One road for the whole session, of its own beside that of tests/e2e: every fault is done to it, and leaves it converged."""

from collections.abc import Iterator

import pytest

from tests.support.e2e import Road, stand


@pytest.fixture(scope="session")
def converged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A road whose stack is up."""
    with stand(tmp_path_factory.mktemp("faults") / "glm-fleet", lab="glm-faults") as road:
        done = road.up()
        assert done.returncode == 0, done.stdout
        yield road
