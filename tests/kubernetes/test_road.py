"""A whole stack on a real API server, by the real Pulumi engine: preview, up, a change, drift by kubectl's hand, destroy.

The Kubernetes plugin is the stand-in of lab/kubernetes/plugin, the kubelet is played (tests/support/played_kubelet.py).
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.cluster_project import Project
from tests.support.environment import expect_success
from tests.support.played_kubelet import Kubelet

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(900)]
SPACE = "road"
FLAG = "vars.vllm_flags.max-model-len"


@pytest.fixture(scope="module")
def project(gpu_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    kubelets = [Kubelet(gpu_server, name) for name in (SPACE, f"{SPACE}-weights")]
    yield Project(tmp_path_factory.mktemp("road"), gpu_server, SPACE, release=("glm", "namespace"))
    for each in kubelets:
        each.close()


def live(server: ApiServer, path: str) -> dict[str, Any]:
    return server.request("GET", path)


def test_a_stack_is_previewed_made_changed_mended_and_removed(project: Project, gpu_server: ApiServer) -> None:
    print(expect_success(project.change("preview")))
    print(expect_success(project.change("up")))
