"""A change of a model's pods that the world disturbs: the API server is gone for a while, a webhook refuses, a registry does not answer, vLLM crashes.

As test_rollout.py, with what stands beside an API server: tests/support/broken_way.py.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors
from fleet.cluster import Access, Cluster, rollout
from fleet.cluster.rollout import Change
from tests.support.api_server import ApiServer
from tests.support.broken_way import KubeletLogs, Way, Webhook
from tests.support.model_rollout import SELECTOR, apply, deployment, expect_golden

pytestmark = pytest.mark.usefixtures("short_interval")


@pytest.fixture
def cluster(gpu_server: ApiServer) -> Cluster:
    return Cluster(Access("admin", str(gpu_server.kubeconfig)))


@pytest.fixture
def way(gpu_server: ApiServer) -> Iterator[Way]:
    way = Way(int(gpu_server.url.rpartition(":")[2]))
    yield way
    way.close()


@pytest.fixture
def through(gpu_server: ApiServer, way: Way, tmp_path: Path) -> Cluster:
    """The cluster by the way that a test can cut."""
    file = tmp_path / "kubeconfig"
    file.write_text(gpu_server.kubeconfig.read_text().replace(gpu_server.url, f"https://127.0.0.1:{way.port}"))
    return Cluster(Access("admin", str(file)))


def change(namespace: str) -> Change:
    return Change(namespace, "glm", "one", 60, SELECTOR)


def expect_failure(cluster: Cluster, namespace: str, claim: str) -> None:
    with pytest.raises(errors.RolloutFailed) as caught:
        rollout.follow(cluster, change(namespace), lambda _: None)
    expect_golden(cluster, namespace, claim, str(caught.value))


def test_an_api_server_that_comes_back_is_waited_for(
    gpu_server: ApiServer, through: Cluster, way: Way, namespace: str
) -> None:
    lines: list[str] = []
    mending = threading.Timer(1.5, way.mend)

    def note(line: str) -> None:
        if not lines:
            way.cut()
            mending.start()
        lines.append(line)

    apply(gpu_server, deployment(namespace, "one"))
    assert len(rollout.follow(through, change(namespace), note)) == 2
    assert any(line.startswith("waits for the API server: https://127.0.0.1:") for line in lines[1:])
    mending.join()


def test_an_api_server_that_stays_away_ends_the_wait_and_not_the_change(
    gpu_server: ApiServer, cluster: Cluster, through: Cluster, way: Way, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "GONE", 1.0)
    apply(gpu_server, deployment(namespace, "one"))
    with pytest.raises(errors.ClusterUnreachable, match="what runs in the cluster goes on, and `pulumi up` continues"):
        rollout.follow(through, change(namespace), lambda _: way.cut())
    assert len(rollout.follow(cluster, change(namespace), lambda _: None)) == 2


def test_a_pod_that_a_webhook_refuses_is_named_with_its_words(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "REFUSAL", 1.0)
    webhook = Webhook(tmp_path, "images come from our own registry \x1b[31m")
    config = webhook.configuration(namespace)
    gpu_server.apply(config)
    try:
        apply(gpu_server, deployment(namespace, "one"))
        expect_failure(cluster, namespace, "webhook")
    finally:
        gpu_server.request("DELETE", gpu_server.path(config))
        webhook.close()


def test_an_image_that_is_not_pulled_for_a_while_ends_the_change(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout.verdicts, "PULL", 1.0)
    apply(gpu_server, deployment(namespace, "one", "backoff"))
    expect_failure(cluster, namespace, "backoff")


def test_a_crash_has_the_last_lines_of_the_container(
    gpu_server: ApiServer, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    lines = [f"line {number}" for number in range(20)]
    kubelet = KubeletLogs(tmp_path, "\n".join([*lines, "torch.OutOfMemoryError: HIP out of memory\x1b[2J", "x" * 300]))
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in ("gpu-1", "gpu-2")]
    port = {"kubeletEndpoint": {"Port": kubelet.server_port}}
    for node in nodes:
        gpu_server.set_status(
            node, {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": port}
        )
    try:
        apply(gpu_server, deployment(namespace, "one", "crash"))
        expect_failure(cluster, namespace, "crash-with-log")
        assert any("previous=true" in path and "tailLines=8" in path for path in kubelet.asked)
    finally:
        for node in nodes:
            gpu_server.set_status(node, {"addresses": None, "daemonEndpoints": None})
        kubelet.close()
