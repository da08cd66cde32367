"""Real API servers for the tests of this folder: one alone, with a service account that may do little; one with controllers and GPU nodes.

And the resource Rollout, for the second.
"""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.cluster import nodes, rollout
from fleet.provider.base import Request
from fleet.provider.rollout import Rollout
from tests.support import api_server as support
from tests.support.api_server import LIMITED, ApiServer
from tests.support.model_rollout import LABEL, SELECTOR
from tests.support.played_kubelet import Kubelet
from tests.support.rollout_run import Listener, Probes

ROOM = {"cpu": "64", "memory": "2000Gi", "pods": "20"}
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without controllers: it judges and keeps objects, and nothing acts on them."""
    with support.running(tmp_path_factory.mktemp("api_server")) as server:
        server.add_account(LIMITED, "default", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
        yield server


@pytest.fixture(scope="session")
def gpu_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A cluster with two nodes, each with 8 GPUs."""
    with support.running(tmp_path_factory.mktemp("rollout"), controllers=True) as server:
        for name in ("gpu-1", "gpu-2"):
            support.add_node(server, name, {**ROOM, nodes.GPU: "8"}, {LABEL: SELECTOR[LABEL][0]})
        yield server


@pytest.fixture
def namespace(gpu_server: ApiServer) -> Iterator[str]:
    """A namespace of the test's own, whose pods have a kubelet."""
    server = gpu_server
    name = f"rollout-{next(NUMBERS)}"
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    support.wait(lambda: _exists(server, account), "the namespace has its account")
    kubelet = Kubelet(server, name)
    yield name
    deployments = f"/apis/apps/v1/namespaces/{name}/deployments"
    server.request("DELETE", deployments, propagationPolicy="Foreground")
    # Not its pods alone: one that is made after the kubelet's end would hold its GPUs for ever.
    support.wait(lambda: not server.request("GET", deployments)["items"], "its deployments and their pods have ended")
    kubelet.close()


def _exists(server: ApiServer, path: str) -> bool:
    try:
        return bool(server.request("GET", path))
    except support.RefusedError:
        return False


@pytest.fixture
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look ten times as often as with a real cluster."""
    monkeypatch.setattr(rollout, "INTERVAL", 0.2)


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
def resource(probes: Probes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rollout:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr("fleet.provider.probing._write_evidence", lambda *_: None)
    return Rollout(probes, listen=Listener)  # type: ignore[arg-type]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def request_of_pulumi(lines: list[str]) -> Request:
    urn = "urn:pulumi:prod::glm-fleet::fleet:index:Rollout::glm"
    return Request(urn, lambda text, ephemeral: lines.append(text), threading.Event())
