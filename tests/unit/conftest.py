"""Fixtures of the tests of fleet/weights_fetcher (a hub and neighbours in this process, the folder of a node that fetches from them), of
fleet/cluster, and of resources with certificates (fleet/provider). Owns what all fuzz tests here have in common."""

import contextlib
import datetime
import pathlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fleet import certificates
from fleet.cluster import Access, Cluster
from fleet.provider import base
from fleet.weights_fetcher import neighbours, swarm
from tests.support import weights_hub, weights_source
from tests.support.gateway_resource import START, Travel
from tests.support.scripted_api import CONTEXT, ScriptedApi
from tests.support.weights_hub import Hub, Node
from tests.support.weights_member import Member, Take, places
from tests.support.weights_source import Pki, Source

OTHERS = ("n2", "n3")

# Always the same examples, so that every run tests the same. No deadline: a loaded machine is slow, and the first example loads tables.
settings.register_profile(
    "unit",
    max_examples=100,  # the most that any of these files had
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("unit")


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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter times than a real fleet has."""
    for module, name, value in (
        (swarm, "POLL", 0.05),
        (swarm, "LOOK", 0.2),
        (swarm, "TAKE", 0.1),
        (swarm, "LATE", 0.3),
        (neighbours, "LONGEST_CHUNK", 4),
        (neighbours, "SILENCE", 5),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for how long others are waited for."""
    for name in ("GRACE", "STALL", "SILENT"):
        monkeypatch.setattr(swarm, name, 1.5)


@pytest.fixture
def pki(tmp_path: pathlib.Path) -> Pki:
    return weights_source.pki(tmp_path / "tls")


@pytest.fixture
def sources(hub: Hub, pki: Pki) -> Iterator[dict[str, Source]]:
    """Two neighbours that have every file."""
    del hub.files["README.md"]
    with contextlib.ExitStack() as stack:
        made = {name: Source(dict(hub.files), pki.server(name), pki.ca) for name in OTHERS}
        for one in made.values():
            stack.callback(one.close)
        yield made


@pytest.fixture
def member(tmp_path: pathlib.Path, hub: Hub, pki: Pki, sources: dict[str, Source]) -> Member:
    return Member(tmp_path / "n1", hub, pki, "n1", places(sources))


@pytest.fixture
def take(member: Member, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Take:
    return lambda: member.take(capsys, monkeypatch)


@pytest.fixture
def travel(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Travel:
    """Set the clock of certificates to so many days after the first day; what is kept beside the state goes into a folder of the test."""

    def to(days: int) -> None:
        monkeypatch.setattr(certificates, "now", lambda: START + datetime.timedelta(days=days))

    to(0)
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    return to
