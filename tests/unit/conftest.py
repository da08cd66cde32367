"""Fixtures of the tests of fleet/weights_fetcher (a hub in this process, the folder of a node that fetches from it) and of fleet/cluster."""

import pathlib
from collections.abc import Iterator

import pytest

from fleet.cluster import Access, Cluster
from tests.support import weights_hub
from tests.support.scripted_api import CONTEXT, ScriptedApi
from tests.support.weights_hub import Hub, Node


@pytest.fixture
def hub() -> Iterator[Hub]:
    with weights_hub.serve() as server:
        yield server


@pytest.fixture
def node(tmp_path: pathlib.Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)


@pytest.fixture
def api(tmp_path: pathlib.Path) -> Iterator[ScriptedApi]:
    """An API server of the test's own words."""
    server = ScriptedApi(tmp_path)
    yield server
    server.close()


@pytest.fixture
def cluster(api: ScriptedApi) -> Cluster:
    """The cluster of that API server."""
    return Cluster(Access(CONTEXT, str(api.kubeconfig)))
