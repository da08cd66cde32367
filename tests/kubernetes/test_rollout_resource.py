"""The resource Rollout against a real API server with controllers: its outputs, going back by itself, going forward again, drift."""

import itertools
from pathlib import Path

import pytest

from fleet import errors
from fleet.cluster import Access, Cluster, workloads
from fleet.drift import Difference
from fleet.provider.base import InitFailed, Request
from fleet.provider.properties import Props
from fleet.provider.rollout import Rollout
from tests.support.api_server import ApiServer
from tests.support.model_rollout import apply, deployment, expect_golden
from tests.support.rollout_run import Probes, inputs

pytestmark = pytest.mark.usefixtures("short_interval")


@pytest.fixture
def good(gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request) -> Props:
    """The state after a first change that serves."""
    apply(gpu_server, deployment(namespace, "one"))
    return resource.apply(request_of_pulumi, inputs(gpu_server, namespace, "one"), None)


def failed(resource: Rollout, request: Request, news: Props, old: Props) -> InitFailed:
    with pytest.raises(InitFailed) as caught:
        resource.apply(request, news, old)
    return caught.value


def live(gpu_server: ApiServer, namespace: str) -> str:
    return workloads.digest(gpu_server.get(deployment(namespace, "any"))["spec"]["template"])


def test_a_first_change_has_its_pods_their_nodes_and_the_verdict_of_the_probes(good: Props, probes: Probes) -> None:
    assert sorted(pod["node"] for pod in good["pods"]) == ["gpu-1", "gpu-2"]
    assert (good["verdict"]["passed"], good["verdict"]["total"]) == (2, 2) == (probes.asked, probes.asked)
    assert good["good"]["template"] == good["running"] == "one"
    assert good["seconds"]["rollout"] > 0
    assert "new" in good["took"]


def test_a_change_that_fails_goes_back_by_itself_and_the_next_one_goes_forward_again(
    gpu_server: ApiServer,
    namespace: str,
    resource: Rollout,
    request_of_pulumi: Request,
    good: Props,
    lines: list[str],
) -> None:
    news = inputs(gpu_server, namespace, "two")
    apply(gpu_server, deployment(namespace, "two", "wrong"))
    error = failed(resource, request_of_pulumi, news, good)
    cluster = Cluster(Access.from_inputs(news["cluster"]))
    expect_golden(cluster, namespace, "went-back", str(error))
    state = error.properties
    assert (state["good"]["template"], state["running"]) == ("one", "one")
    assert len(state["pods"]) == 2
    assert live(gpu_server, namespace) == "one"
    lines.clear()
    again = failed(
        resource, request_of_pulumi, news, state
    )  # Pulumi's state has template two already, and changes nothing
    assert "goes forward again to the template of the stack" in lines
    assert "goes back" in str(lines) and "its answers are wrong" in str(again)
    assert live(gpu_server, namespace) == "one"


def test_probes_that_fail_after_the_change_take_it_back(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request, good: Props, probes: Probes
) -> None:
    probes.blind = True
    apply(gpu_server, deployment(namespace, "two"))
    error = failed(resource, request_of_pulumi, inputs(gpu_server, namespace, "two"), good)
    assert isinstance(error.error, errors.ProbeFailed)
    assert "went back to the template that served before: 2 of 2 pods serve it" in str(error)
    assert live(gpu_server, namespace) == "one"
    probes.blind = False
    outputs = resource.apply(request_of_pulumi, inputs(gpu_server, namespace, "two"), error.properties)
    assert live(gpu_server, namespace) == "two" == outputs["running"]


def test_a_first_change_that_fails_has_nothing_to_go_back_to(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request
) -> None:
    apply(gpu_server, deployment(namespace, "one", "crash"))
    with pytest.raises(InitFailed) as caught:
        resource.apply(request_of_pulumi, inputs(gpu_server, namespace, "one"), None)
    assert "no earlier template has served: the pods stay as they are" in str(caught.value)
    assert caught.value.properties["running"] == ""


def test_a_refresh_sees_another_template_and_pods_that_do_not_serve_and_nothing_else(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request, good: Props
) -> None:
    same = resource.read(request_of_pulumi, good)
    assert same == good
    apply(gpu_server, deployment(namespace, "one", "never", EDITED="by hand"))
    for _ in itertools.count():
        now = resource.read(request_of_pulumi, good)
        assert now
        if {entry["attribute"] for entry in now["drift"]} == {"template", "pods"}:
            break
    assert next(entry["seen"] for entry in now["drift"] if entry["attribute"] == "pods") == 1


def test_a_refresh_sees_that_a_deployment_was_scaled_by_hand(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request, good: Props
) -> None:
    scaled = deployment(namespace, "one")
    scaled["spec"]["replicas"] -= 1
    apply(gpu_server, scaled)
    while gpu_server.get(scaled)["status"].get("availableReplicas") != 1:
        pass  # each look takes some milliseconds
    now = resource.read(request_of_pulumi, good)
    assert now and now["drift"] == [Difference("deployment", "glm", "pods", 2, 1).to_json()]


def test_a_refresh_without_the_deployment_forgets_the_rollout(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request
) -> None:
    assert resource.read(request_of_pulumi, inputs(gpu_server, namespace, "one")) is None


def test_an_api_server_that_is_gone_keeps_the_state(
    gpu_server: ApiServer, namespace: str, resource: Rollout, request_of_pulumi: Request, good: Props, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(gpu_server.kubeconfig.read_text().replace(gpu_server.url, "https://127.0.0.1:1"))
    news = {**inputs(gpu_server, namespace, "two"), "cluster": {"context": "admin", "kubeconfig": str(file)}}
    error = failed(resource, request_of_pulumi, news, good)
    assert isinstance(error.error, errors.ClusterUnreachable)
    assert error.properties["good"] == good["good"]
