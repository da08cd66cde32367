"""Claims about the stand-in of the Kubernetes plugin, on a real API server: it does what the vendor's was seen to do.

Its requests are those of the Pulumi engine, without gRPC between; the whole with the engine is in test_road.py.
"""

import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from fleet.cluster import Access, Cluster
from fleet.provider.properties import to_dict, to_struct
from lab.kubernetes.plugin import inputs
from lab.kubernetes.plugin.store import MANAGER, Store
from tests.support import cluster_stack
from tests.support.api_server import ApiServer, Object
from tests.support.cluster_stack import HOMES
from tests.support.standin_plugin import URN, AbortedError, Plugin

NUMBERS = itertools.count()


@pytest.fixture
def plugin(api_server: ApiServer) -> Plugin:
    return Plugin(api_server.kubeconfig)


@pytest.fixture
def made(api_server: ApiServer) -> Callable[..., Object]:
    """Return manifests in the namespace `default`, each with a name of its own."""

    def manifest(version: str, kind: str, **content: Any) -> Object:
        name = f"thing-{next(NUMBERS)}"
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **content}

    return manifest


@pytest.mark.parametrize("home", HOMES)
def test_what_the_server_adds_to_an_object_or_drops_of_it_is_no_drift(api_server: ApiServer, home: str) -> None:
    store = Store(Cluster(Access("admin", str(api_server.kubeconfig))))
    stack = cluster_stack.stack(namespace=f"plugin-{home}", weights=HOMES[home])
    for manifest in cluster_stack.objects(stack, token="of the hub").values():
        assert inputs.read_back(manifest, store.apply(manifest)) == manifest


def test_a_list_that_the_server_drops_because_it_is_empty_is_no_drift(
    plugin: Plugin, api_server: ApiServer, made: Callable[..., Object]
) -> None:
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}
    policy = made("networking.k8s.io/v1", "NetworkPolicy", spec=spec)
    plugin.create(policy)
    live = api_server.get(policy)
    assert "ingress" not in live["spec"]
    assert inputs.read_back(policy, live) == policy


def test_a_preview_tells_nothing_that_only_the_server_knows(plugin: Plugin, made: Callable[..., Object]) -> None:
    service = made("v1", "Service", spec={"ports": [{"port": 80}]})
    assert to_dict(plugin.create(service, preview=True).properties) == service
    assert to_dict(plugin.create(service).properties)["spec"]["clusterIP"]


def test_a_preview_refuses_what_the_server_refuses(plugin: Plugin, made: Callable[..., Object]) -> None:
    with pytest.raises(AbortedError, match="field not declared in schema"):
        plugin.create(made("v1", "ConfigMap", dtaa={}), preview=True)


def test_an_object_that_exists_is_not_taken(plugin: Plugin, api_server: ApiServer, made: Callable[..., Object]) -> None:
    thing = made("v1", "ConfigMap", data={"a": "of others"})
    api_server.apply(thing)
    with pytest.raises(AbortedError, match="it exists already, and is not in this stack's state"):
        plugin.create({**thing, "data": {"a": "ours"}})
    assert api_server.get(thing)["data"] == {"a": "of others"}


def test_kubectls_fields_are_a_conflict_in_a_preview_and_up_takes_them(
    plugin: Plugin, api_server: ApiServer, made: Callable[..., Object]
) -> None:
    budget = made("policy/v1", "PodDisruptionBudget", spec={"maxUnavailable": 1, "selector": {}})
    plugin.create(budget)
    edit = {"spec": {"maxUnavailable": 2}}
    api_server.request("PATCH", api_server.path(budget), edit, form="merge-patch+json", fieldManager="kubectl-edit")
    with pytest.raises(AbortedError, match=r'conflict with "kubectl-edit"[^"]*\.spec\.maxUnavailable'):
        plugin.update(budget, preview=True)
    plugin.update(budget)
    live = api_server.get(budget)
    assert live["spec"]["maxUnavailable"] == 1
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == [MANAGER]


def test_another_managers_fields_stay_a_conflict(
    plugin: Plugin, api_server: ApiServer, made: Callable[..., Object]
) -> None:
    budget = made("policy/v1", "PodDisruptionBudget", spec={"maxUnavailable": 1, "selector": {}})
    plugin.create(budget)
    edit = {"spec": {"maxUnavailable": 2}}
    api_server.request("PATCH", api_server.path(budget), edit, form="merge-patch+json", fieldManager="an-operator")
    with pytest.raises(AbortedError, match='conflict with "an-operator"'):
        plugin.update(budget)


def test_changed_data_is_a_replacement_and_deletes_first_only_if_the_name_stays(
    plugin: Plugin, made: Callable[..., Object]
) -> None:
    old = made("v1", "ConfigMap", data={"a": "1"})
    same = plugin.diff(old, {**old, "data": {"a": "2"}})
    other = plugin.diff(old, made("v1", "ConfigMap", data={"a": "2"}))
    assert list(same.replaces) == ["data.a"]
    assert same.deleteBeforeReplace
    assert "metadata.name" in other.replaces
    assert not other.deleteBeforeReplace


def test_a_field_that_the_server_lets_nobody_change_is_a_replacement(
    plugin: Plugin, made: Callable[..., Object]
) -> None:
    labels = {"matchLabels": {"a": "b"}}
    secret = made("v1", "Secret", stringData={"a": "b"}, immutable=True)
    plugin.create(secret)
    assert list(plugin.diff(secret, {**secret, "immutable": False}).replaces) == ["immutable"]
    budget = made("policy/v1", "PodDisruptionBudget", spec={"maxUnavailable": 1, "selector": labels})
    plugin.create(budget)
    assert not plugin.diff(budget, {**budget, "spec": {"maxUnavailable": 2, "selector": labels}}).replaces


def test_what_a_secret_holds_is_marked_secret(plugin: Plugin, made: Callable[..., Object]) -> None:
    outputs = plugin.create(made("v1", "Secret", stringData={"key": "a-word"})).properties
    assert outputs["data"][inputs.SIGNATURE] == inputs.SECRET
    assert "a-word" not in str(to_dict(outputs)["metadata"])


def test_a_wait_tells_of_each_pod_and_its_end_keeps_the_object(plugin: Plugin, api_server: ApiServer) -> None:
    labels = {"app": "waits"}
    container = {"name": "vllm", "image": "none.invalid/none"}
    place = {"name": "waits", "namespace": "default"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**place, "labels": labels},
        "spec": {"containers": [container]},
    }
    api_server.apply(pod)
    status = {"name": "vllm", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    why = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    api_server.set_status(pod, {"containerStatuses": [{**status, "state": why}]})
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place, "spec": spec}
    with pytest.raises(AbortedError, match="Waiting for app ReplicaSet to be available") as caught:
        plugin.create(deployment, timeout=0.5)
    assert "[Pod default/waits]: ImagePullBackOff: Back-off pulling image" in str(caught.value)
    assert str(caught.value) in plugin.said


FAILED = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
WHEN = "2026-11-30T07:00:00Z"


@pytest.fixture
def weights_job(api_server: ApiServer) -> Object:
    """A Job of the stack that fetches weights; its namespace is there."""
    stack = cluster_stack.stack(namespace="fetches", weights=HOMES["claim"])
    objects = cluster_stack.objects(stack)
    api_server.apply(objects["Namespace/fetches"])
    [job] = [manifest for key, manifest in objects.items() if key.startswith("Job/")]
    return dict(job)


def end(server: ApiServer, job: Object, *kinds: str, **reason: str) -> None:
    """Report how a Job has ended, as its controller would."""
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": WHEN, **reason} for kind in kinds]
    done = {"completionTime": WHEN, "succeeded": 1} if "Complete" in kinds else {"failed": 3}
    server.set_status(job, {"startTime": WHEN, "conditions": conditions, **done})


def test_a_job_that_has_failed_is_made_anew_by_the_next_up_and_one_that_is_complete_is_not(
    plugin: Plugin, api_server: ApiServer, weights_job: Object
) -> None:
    job, kept = weights_job, api_server.apply(weights_job)[0]
    end(api_server, job, "FailureTarget", "Failed", **FAILED)
    with pytest.raises(AbortedError, match="Job has reached the specified backoff limit"):
        plugin.update(job)
    again = plugin.diff(job, job)
    assert (again.changes, list(again.replaces), again.deleteBeforeReplace) == (
        provider_pb2.DiffResponse.DIFF_SOME,
        ['metadata.annotations["pulumi.com/replaceUnready"]'],
        True,
    )
    api_server.request("DELETE", api_server.path(job), propagationPolicy="Background")
    [fresh] = api_server.apply(job)
    end(api_server, job, "SuccessCriteriaMet", "Complete")
    assert fresh["metadata"]["uid"] != kept["metadata"]["uid"]
    plugin.update(job)
    assert plugin.diff(job, job).changes == provider_pb2.DiffResponse.DIFF_NONE


@pytest.fixture(params=["no kubeconfig", "nobody answers", "the token has expired"])
def unreachable(request: pytest.FixtureRequest, api_server: ApiServer, tmp_path: Path) -> Plugin:
    """The plugin of a cluster that it cannot reach."""
    kubeconfig, text = tmp_path / "kubeconfig", api_server.kubeconfig.read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        nobody = f"https://127.0.0.1:{taken.getsockname()[1]}"
        if request.param == "nobody answers":
            kubeconfig.write_text(text.replace(api_server.url, nobody))
        elif request.param == "the token has expired":
            kubeconfig.write_text(text.replace(api_server.tokens["admin"], "expired"))
        return Plugin(kubeconfig)


def read(plugin: Plugin, manifest: Object) -> provider_pb2.ReadResponse:
    properties = to_struct(manifest)
    request = provider_pb2.ReadRequest(id="default/thing", urn=URN, properties=properties, inputs=properties)
    return plugin.plugin.Read(request, plugin.context)


def delete(plugin: Plugin, manifest: Object) -> None:
    request = provider_pb2.DeleteRequest(id="default/thing", urn=URN, properties=to_struct(manifest))
    plugin.plugin.Delete(request, plugin.context)


def test_objects_of_a_cluster_that_does_not_answer_stay_in_the_state_and_the_message_says_how_to_forget_them(
    unreachable: Plugin, made: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PULUMI_K8S_DELETE_UNREACHABLE", "1")  # the vendor's takes `true` alone
    thing = made("v1", "ConfigMap")
    for request in (read, delete):
        with pytest.raises(AbortedError, match="if it was deleted, PULUMI_K8S_DELETE_UNREACHABLE=true removes"):
            request(unreachable, thing)
    assert unreachable.said[0].startswith("configured Kubernetes cluster is unreachable: admin: ")
    for request in (unreachable.create, unreachable.update):
        with pytest.raises(AbortedError, match="configured Kubernetes cluster is unreachable: admin: "):
            request(thing)


def test_with_the_variable_of_the_vendor_s_plugin_they_leave_the_state(
    unreachable: Plugin, made: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_K8S_DELETE_UNREACHABLE", "true")
    thing = made("v1", "ConfigMap")
    assert read(unreachable, thing).id == ""
    delete(unreachable, thing)
    assert "removes the object from the state" in unreachable.said[-1]


def test_a_cluster_that_answers_keeps_its_objects_whatever_the_variable_says(
    plugin: Plugin, made: Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_K8S_DELETE_UNREACHABLE", "true")
    thing = made("v1", "ConfigMap")
    plugin.create(thing)
    assert read(plugin, thing).id == "default/thing"


def test_a_preview_needs_no_cluster_that_answers(unreachable: Plugin, made: Callable[..., Object]) -> None:
    thing = made("v1", "ConfigMap", data={"a": "b"})
    assert to_dict(unreachable.create(thing, preview=True).properties) == thing
