"""A real API server for the tests of this folder, and a service account that may do little."""

from collections.abc import Iterator

import pytest

from tests.support import api_server as support
from tests.support.api_server import LIMITED, ApiServer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without controllers: it judges and keeps objects, and nothing acts on them."""
    with support.running(tmp_path_factory.mktemp("api_server")) as server:
        server.add_account(LIMITED, "default", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
        yield server
