"""A first change that the world stops: its message, and that the next `up` converges once the world has been mended, with nothing else to do.

No template has served before, so nothing can go back. Real API server, controllers and scheduler; the kubelet is played.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.cluster import Access, Cluster, nodes, verdicts
from fleet.program.kubernetes import rights
from fleet.provider.base import InitFailed, Request
from fleet.provider.rollout import Rollout
from tests.support import api_server as support
from tests.support.api_server import ApiServer, Object
from tests.support.broken_way import Webhook
from tests.support.model_rollout import apply, deployment, expect_golden
from tests.support.rollout_run import inputs

pytestmark = pytest.mark.usefixtures("short_interval")
Mend = Callable[[], object]


@dataclass(frozen=True)
class World:
    """The cluster, a namespace of the test's own, and what ends with the test."""

    server: ApiServer
    namespace: str
    folder: Path
    ended: contextlib.ExitStack

    def deploy(self, plays: str = "ready") -> None:
        apply(self.server, deployment(self.namespace, "one", plays))

    def remove(self, thing: Object, **query: str) -> object:
        return self.server.request("DELETE", self.server.path(thing), **query)

    def let_pods_serve(self) -> None:
        pods = self.server.pods({"glm-fleet/model": "glm"}, self.namespace)
        assert len(pods) == 2
        for pod in pods:
            support.make_ready(self.server, {"apiVersion": "v1", "kind": "Pod", **pod})


@pytest.fixture
def world(gpu_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with contextlib.ExitStack() as ended:
        yield World(gpu_server, namespace, tmp_path, ended)


def quota(world: World) -> Mend:
    thing = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "models", "namespace": world.namespace}}
    world.server.apply({**thing, "spec": {"hard": {f"requests.{nodes.GPU}": "8"}}})
    support.wait(lambda: "used" in world.server.get(thing).get("status", {}), "the quota is counted")
    world.deploy()
    return lambda: world.remove(thing)


def webhook(world: World) -> Mend:
    hook = Webhook(world.folder, "images come from our own registry")
    world.ended.callback(hook.close)
    config = hook.configuration(world.namespace)
    world.server.apply(config)
    world.deploy()
    return lambda: world.remove(config)


def shortage(world: World) -> Mend:
    container = {"name": "tool", "image": "tool", "resources": {"limits": {nodes.GPU: "8"}}}
    place = {"name": "tool", "namespace": world.namespace}
    spec = {"nodeName": "gpu-1", "containers": [container]}
    tool: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": spec}
    world.server.apply(tool)
    world.deploy()
    return lambda: support.end_pod(world.server, tool)


def pods(plays: str) -> Callable[[World], Mend]:
    """Return a trouble that the kubelets report: what `plays` says."""

    def trouble(world: World) -> Mend:
        world.deploy(plays)
        return world.let_pods_serve

    return trouble


TROUBLES: dict[str, tuple[Callable[[World], Mend], str]] = {
    "quota": (quota, "exceeded quota: models, requested: requests.amd.com/gpu=8"),
    "webhook": (webhook, 'admission webhook "images.example.com" denied the request'),
    "shortage": (shortage, "gpu-1: 0 of 8 free; NAMESPACE/tool 8"),
    "image": (pods("backoff"), "its image cannot be pulled"),
    "crash": (pods("crash"), "container vllm ended with exit code 1, 2 times"),
    "never ready": (pods("never"), "not done within 10 s: 0 of 2 pods serve"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_after_a_trouble_has_been_mended_the_next_up_converges(
    world: World, resource: Rollout, request_of_pulumi: Request, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trouble, words = TROUBLES[name]
    # Long enough that Kubernetes waits longer before its next try than the next `up` does.
    for limit in ("PULL", "PLACE", "REFUSAL"):
        monkeypatch.setattr(verdicts, limit, 4.0)
    mend = trouble(world)
    wanted = inputs(world.server, world.namespace, "one", deadline=5 if name == "never ready" else 60)
    with pytest.raises(InitFailed) as caught:
        resource.apply(request_of_pulumi, wanted, None)
    assert words.replace("NAMESPACE", world.namespace) in str(caught.value)
    assert "no earlier template has served: the pods stay as they are" in str(caught.value)
    mend()
    for limit in ("PULL", "PLACE", "REFUSAL"):
        monkeypatch.setattr(verdicts, limit, 1.0)
    outputs = resource.apply(request_of_pulumi, wanted, caught.value.properties)
    assert (len(outputs["pods"]), outputs["running"]) == (2, "one")


def account(world: World, name: str, secret: str) -> None:
    """Make an account with the rights of a stack in the namespace, and a context with a token that ends with a Secret (TokenRequest)."""
    server, place = world.server, {"name": secret, "namespace": world.namespace}
    thing: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": place}
    server.apply(thing)
    deployments = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    server.add_account(name, world.namespace, [deployments, *(dict(rule) for rule in rights.WATCHED)])
    bound = {"apiVersion": "v1", "kind": "Secret", "name": secret}
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/{name}/token"
    answer = server.request("POST", path, {"spec": {"expirationSeconds": 600, "boundObjectRef": bound}})
    server.add_context(name, answer["status"]["token"])


def test_a_token_that_ends_in_mid_run_is_said_and_the_next_up_goes_on_with_another_one(
    world: World, resource: Rollout, request_of_pulumi: Request
) -> None:
    server, name = world.server, f"deployer-{world.namespace}"
    account(world, name, "first")
    world.deploy("never")
    wanted: dict[str, Any] = inputs(server, world.namespace, "one")
    wanted["cluster"]["context"] = name
    first = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "first", "namespace": world.namespace}}
    said: list[str] = []

    def report(line: str, ephemeral: bool) -> None:
        if not said:
            world.remove(first)
        said.append(line)

    with pytest.raises(InitFailed) as caught:
        resource.apply(dataclasses.replace(request_of_pulumi, report=report), wanted, None)
    error = caught.value.error
    assert isinstance(error, errors.ClusterRefused)
    cluster = Cluster(Access(name, str(server.kubeconfig)))
    # Any of the requests of a look may be the first that the server refuses.
    expect_golden(cluster, world.namespace, "token-ended", str(error).replace(error.doing, "DOING"))
    account(world, name, "second")
    world.let_pods_serve()
    outputs = resource.apply(request_of_pulumi, wanted, caught.value.properties)
    assert (len(outputs["pods"]), outputs["running"]) == (2, "one")
