"""A whole stack on a real API server, by the real Pulumi engine: preview, up, changes, drift by kubectl's hand, a failure, destroy. In this order.

The Kubernetes plugin is the stand-in of lab/kubernetes/plugin, the kubelet is played (tests/support/played_kubelet.py).
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.cluster import workloads
from tests.support import api_server as support
from tests.support.api_server import ApiServer, Object
from tests.support.cluster_project import Project
from tests.support.cluster_stack import KEY
from tests.support.environment import expect_failure, expect_success
from tests.support.played_kubelet import Kubelet

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]
SPACE = "road"
FLAG = 'vars.vllm_flags["max-num-seqs"]'
BLIND = "max-num-seqs: 7"  # in the configuration of pods that see wrongly
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/glm"
BUDGET = f"/apis/policy/v1/namespaces/{SPACE}/poddisruptionbudgets/glm"
HAND = {"fieldManager": "kubectl-edit"}


def plays(pod: Object) -> str:
    """Return how a pod behaves."""
    notes = pod["metadata"].get("annotations") or {}
    return "wrong" if BLIND in notes.get("glm-fleet/config.yaml", "") else "ready"


@pytest.fixture(scope="module")
def project(gpu_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    kubelets = [Kubelet(gpu_server, name, plays) for name in (SPACE, f"{SPACE}-weights")]
    yield Project(tmp_path_factory.mktemp("road"), gpu_server, SPACE, release=("glm", "namespace"))
    for each in kubelets:
        each.close()


def pods(server: ApiServer) -> list[Object]:
    return server.pods({"glm-fleet/model": "glm"}, SPACE)


def spaces(server: ApiServer) -> list[str]:
    names = [each["metadata"]["name"] for each in server.request("GET", "/api/v1/namespaces")["items"]]
    return [name for name in names if name.startswith(SPACE)]


def test_a_preview_lets_the_server_judge_and_makes_nothing(project: Project, gpu_server: ApiServer) -> None:
    seen = expect_success(project.change("preview"))
    assert "Resources:\n    + 23 to create\n" in seen
    assert not spaces(gpu_server)


def test_up_makes_every_object_and_ends_when_the_pods_serve(project: Project, gpu_server: ApiServer) -> None:
    seen = expect_success(project.change("up"))
    assert "26 of 26 probes passed" in seen
    assert "+ 23 created" in seen
    assert "Waiting for the Job to succeed (Active: 1 | Succeeded: 0 | Failed: 0)" in seen
    assert sorted(pod["spec"]["nodeName"] for pod in pods(gpu_server)) == ["gpu-1", "gpu-2"]


def test_up_without_a_change_and_a_refresh_change_nothing(project: Project) -> None:
    assert "23 unchanged" in expect_success(project.change("up", "--refresh", "--expect-no-changes"))


def test_neither_the_key_nor_its_base64_is_in_the_state(project: Project) -> None:
    state = project.state()
    assert "vllm-key-" in state
    assert KEY not in state
    assert base64.b64encode(f"VLLM_API_KEY={KEY}\n".encode()).decode() not in state


def test_show_has_a_line_for_each_pod_and_commands_to_paste(project: Project, gpu_server: ApiServer) -> None:
    seen = expect_success(project.verb("show"))
    for pod in pods(gpu_server):
        node = pod["spec"]["nodeName"]
        assert re.search(
            rf"^glm +{pod['metadata']['name']} +{node} +ready +abababababab +26/26 +rollout \d+ s$", seen, re.M
        )
    assert f"fleet forward -s prod glm/{pods(gpu_server)[0]['metadata']['name']} --port 8000" in seen


def test_forward_and_probe_reach_for_a_pod_through_the_api_server(project: Project, gpu_server: ApiServer) -> None:
    name = pods(gpu_server)[0]["metadata"]["name"]
    for verb in ("forward", "probe"):
        seen = expect_failure(project.verb(verb, f"glm/{name}"))  # no kubelet is there
        assert f"admin: forward a port of pod {name}" in seen
    assert f"wanted: glm/{name}, glm/" in expect_failure(project.verb("forward", "glm/none"))


def test_verify_names_each_pod_that_it_cannot_ask(project: Project, gpu_server: ApiServer) -> None:
    seen = expect_failure(project.verb("verify"), 2)  # no kubelet is there
    for pod in pods(gpu_server):
        name = pod["metadata"]["name"]
        assert re.search(rf"^glm +{name} +{pod['spec']['nodeName']} +ready +- +could not ask$", seen, re.M)
        assert f"admin: forward a port of pod {name}" in seen
    assert f"delete jobs -n {SPACE}-weights -l app.kubernetes.io/managed-by=glm-fleet" in seen


@pytest.mark.exhaustive  # test_drain.py has what the verbs do
def test_a_node_is_drained_and_given_back(project: Project, gpu_server: ApiServer) -> None:
    [pod] = [each["metadata"]["name"] for each in pods(gpu_server) if each["spec"]["nodeName"] == "gpu-1"]
    seen = expect_success(project.verb("drain", "gpu-1"))
    assert f"gpu-1 takes no new pods; evicted {pod}\nglm: 1 of 2 pods serve\n" in seen
    assert "the only pod of glm that serves is there" in expect_failure(project.verb("drain", "gpu-2"), 2)
    seen = expect_failure(project.verb("drain", "gpu-2", "--even-last", "--wait", "1"), 1)
    assert "disruption budget" in seen
    expect_success(project.verb("undrain", "gpu-2"))
    assert "gpu-1 takes pods again" in expect_success(project.verb("undrain", "gpu-1"))
    support.wait(lambda: len(nodes_of(pods(gpu_server))) == 2, "a pod has come back")
    assert "23 unchanged" in expect_success(project.change("up", "--refresh"))


def nodes_of(found: list[Object]) -> list[str]:
    """Return the nodes of the pods that serve."""
    ready = [each for each in found if any(c["type"] == "Ready" for c in each["status"].get("conditions", ()))]
    return sorted(each["spec"]["nodeName"] for each in ready)


def test_a_flag_is_previewed_with_what_it_restarts_and_then_rolls_out(project: Project, gpu_server: ApiServer) -> None:
    before = {pod["metadata"]["uid"] for pod in pods(gpu_server)}
    project.set(FLAG, "64")
    seen = expect_success(project.change("preview", "--diff"))
    assert "max-num-seqs: 64" in seen
    assert "restarts 2 pods of glm, one at a time" in seen
    assert {pod["metadata"]["uid"] for pod in pods(gpu_server)} == before
    assert "~ 2 updated" in expect_success(project.change("up"))
    assert {pod["metadata"]["uid"] for pod in pods(gpu_server)}.isdisjoint(before)


@pytest.mark.exhaustive  # test_plugin.py has what a refresh sees
def test_a_change_by_kubectl_is_previewed_and_mended(project: Project, gpu_server: ApiServer) -> None:
    def edit(path: str, **spec: Any) -> None:
        gpu_server.request("PATCH", path, {"spec": spec}, form="merge-patch+json", **HAND)

    edit(DEPLOYMENT, minReadySeconds=6)
    edit(BUDGET, maxUnavailable=2)
    seen = expect_success(project.change("preview", "--refresh", "--diff"))
    assert "maxUnavailable: 2 => 1" in seen
    assert "minReadySeconds: 6 => 5" in seen
    assert "~ 2 updated" in expect_success(project.change("up", "--refresh"))
    assert gpu_server.request("GET", DEPLOYMENT)["spec"]["minReadySeconds"] == 5
    assert gpu_server.request("GET", BUDGET)["spec"]["maxUnavailable"] == 1
    assert "23 unchanged" in expect_success(project.change("up", "--refresh", "--expect-no-changes"))


@pytest.mark.exhaustive
def test_an_object_that_somebody_removed_comes_back(project: Project, gpu_server: ApiServer) -> None:
    gpu_server.request("DELETE", BUDGET)
    seen = expect_success(project.change("up", "--refresh"))
    assert "+ 1 created" in seen
    assert gpu_server.request("GET", BUDGET)["spec"]["maxUnavailable"] == 1


def test_a_change_that_sees_wrongly_goes_back_by_itself_and_the_next_one_needs_nothing_special(
    project: Project, gpu_server: ApiServer
) -> None:
    good = workloads.digest(gpu_server.request("GET", DEPLOYMENT)["spec"]["template"])
    project.set(FLAG, "7")
    seen = expect_failure(project.change("up"))
    assert "its answers are wrong" in seen
    assert "went back to the template that served before: 2 of 2 pods serve it" in seen
    assert workloads.digest(gpu_server.request("GET", DEPLOYMENT)["spec"]["template"]) == good
    project.set(FLAG, "32")
    expect_success(project.change("up"))
    notes = [pod["metadata"]["annotations"]["glm-fleet/config.yaml"] for pod in pods(gpu_server)]
    assert len(notes) == 2
    assert all("max-num-seqs: 32" in note for note in notes)


@pytest.mark.exhaustive  # test_objects.py has the Secret's name, the flag above the restarts
def test_another_key_is_another_secret_and_restarts_the_pods(project: Project, gpu_server: ApiServer) -> None:
    def secrets() -> set[str]:
        items = gpu_server.request("GET", f"/api/v1/namespaces/{SPACE}/secrets")["items"]
        return {each["metadata"]["name"] for each in items}

    before, running = secrets(), {pod["metadata"]["uid"] for pod in pods(gpu_server)}
    project.run("config", "set", "--secret", "vllm_api_key", KEY[::-1], "-s", "prod").check_returncode()
    expect_success(project.change("up"))
    assert len(secrets()) == 1
    assert secrets().isdisjoint(before)
    assert {pod["metadata"]["uid"] for pod in pods(gpu_server)}.isdisjoint(running)


def test_a_namespace_that_exists_already_is_refused(
    project: Project, gpu_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gpu_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "of-others"}})
    other = Project(tmp_path_factory.mktemp("other"), gpu_server, "of-others")
    seen = expect_failure(other.change("preview"))
    assert "it exists, and no stack has made it" in seen


def test_destroy_leaves_nothing(project: Project, gpu_server: ApiServer) -> None:
    expect_success(project.change("destroy"))
    support.wait(lambda: not spaces(gpu_server), "its namespaces are gone")
    volumes = gpu_server.request("GET", "/api/v1/persistentvolumes")["items"]
    assert not [each for each in volumes if each["metadata"]["name"].startswith(SPACE)]
