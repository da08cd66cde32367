"""Fixtures of the tests of fleet/weights_fetcher: a hub in this process, and the folder of a node that fetches from it."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.support import weights_hub
from tests.support.weights_hub import Hub, Node


@pytest.fixture
def hub() -> Iterator[Hub]:
    with weights_hub.serve() as server:
        yield server


@pytest.fixture
def node(tmp_path: pathlib.Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)
