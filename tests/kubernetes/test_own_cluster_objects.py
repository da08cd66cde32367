"""A real API server accepts the objects that the role kubernetes applies to a cluster of own machines: network engine, device plugin, labeller.

Server dry runs of what the role renders. What they do on machines: test_own_cluster.py.
"""

import pathlib

import pytest
import yaml

from tests.support import kubernetes_role
from tests.support.api_server import ApiServer


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> kubernetes_role.Rendered:
    folder: pathlib.Path = tmp_path_factory.mktemp("rendered")
    return kubernetes_role.render(folder)


@pytest.mark.parametrize("file", ["network.yaml", "devices.yaml"])
def test_every_object_of_the_role_is_accepted(
    api_server: ApiServer, rendered: kubernetes_role.Rendered, file: str
) -> None:
    objects = [document for document in yaml.safe_load_all(rendered["first"][file]) if document]
    assert objects
    for document in objects:
        api_server.apply(document, dry_run=True)
