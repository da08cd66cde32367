"""Claims about `fleet drain` and `fleet undrain` on a real API server with controllers, scheduler and disruption budgets; the kubelet is played."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import errors
from fleet.cli import pod_drain, pod_nodes
from fleet.cluster import drain, nodes
from fleet.program.kubernetes import rights
from tests.support import api_server as support
from tests.support.api_server import ApiServer
from tests.support.model_rollout import SELECTOR, ready, serve

GROUP = "rbac.authorization.k8s.io"


@pytest.fixture(autouse=True)
def uncordoned(gpu_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look often, and leave the nodes as they were for other tests."""
    monkeypatch.setattr(drain, "INTERVAL", 0.2)
    yield
    for name in ("gpu-1", "gpu-2"):
        mark(gpu_server, name, None, None)


def mark(server: ApiServer, node: str, cordoned: bool | None, by: str | None) -> None:
    body = {"spec": {"unschedulable": cordoned}, "metadata": {"annotations": {nodes.DRAINED_BY: by}}}
    server.request("PATCH", f"{nodes.PATH}/{node}", body, form="merge-patch+json")


def node(server: ApiServer, name: str) -> nodes.Node:
    return nodes.node(server.request("GET", f"{nodes.PATH}/{name}"))


def rollouts(server: ApiServer, namespace: str, context: str = "admin") -> dict[str, Any]:
    cluster = {"context": context, "kubeconfig": str(server.kubeconfig)}
    return {"glm": {"cluster": cluster, "namespace": namespace, "deployment": "glm", "selector": SELECTOR}}


def out(
    server: ApiServer, namespace: str, name: str, context: str = "admin", even_last: bool = False, seconds: float = 20
) -> tuple[str, bool, list[str]]:
    """Drain; return the report, whether the node is empty, and the lines of progress."""
    lines: list[str] = []
    report, empty = pod_drain.out("prod", rollouts(server, namespace, context), name, even_last, seconds, lines.append)
    return report, empty, lines


def test_a_drain_evicts_the_stack_s_pods_and_no_others_and_nothing_comes_back(
    gpu_server: ApiServer, namespace: str
) -> None:
    pods = serve(gpu_server, namespace, replicas=1)
    [(name, pod)] = pods.items()
    other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tool", "namespace": namespace}}
    gpu_server.apply({**other, "spec": {"nodeName": name, "containers": [{"name": "tool", "image": "tool"}]}})
    report, empty, lines = out(gpu_server, namespace, name, even_last=True)
    assert empty
    assert lines == [f"{pod} ends"]
    first, serving, last = report.splitlines()
    assert first == f"{name} takes no new pods; evicted {pod}"
    assert serving.startswith("glm: ") and serving.endswith(" of 1 pods serve")
    assert last == f"`fleet undrain -s prod {name}` lets it take pods again"
    assert (node(gpu_server, name).cordoned, node(gpu_server, name).drained_by) == (True, namespace)
    support.wait(lambda: len(ready(gpu_server, namespace)) == 1, "its successor serves")
    assert ready(gpu_server, namespace)[0]["spec"]["nodeName"] != name
    assert "deletionTimestamp" not in gpu_server.get(other)["metadata"]
    gpu_server.request("DELETE", gpu_server.path(other), gracePeriodSeconds="0")


def test_the_disruption_budget_holds_a_pod_back_and_the_last_one_needs_even_last(
    gpu_server: ApiServer, namespace: str
) -> None:
    pods = serve(gpu_server, namespace)
    _, empty, _ = out(gpu_server, namespace, "gpu-1")  # its successor finds no free GPUs
    assert empty
    with pytest.raises(errors.FleetError) as caught:
        out(gpu_server, namespace, "gpu-2")
    assert str(caught.value) == (
        "gpu-2: drain: the only pod of glm that serves is there: until another one sees, clients get errors\n"
        "  wanted: a pod elsewhere that serves\n"
        "  next:   `replicas` in the stack file, or give --even-last"
    )
    assert not node(gpu_server, "gpu-2").cordoned
    report, empty, lines = out(gpu_server, namespace, "gpu-2", even_last=True, seconds=1)
    held = "Cannot evict pod as it would violate the pod's disruption budget."
    assert not empty
    [line] = lines  # once, however often it asks
    assert line.startswith(f"{pods['gpu-2']} is held back: {held}")
    assert f"held back after 1 s: {pods['gpu-2']}: {held}" in report
    assert "glm: 1 of 2 pods serve" in report
    assert [each["metadata"]["name"] for each in ready(gpu_server, namespace)] == [pods["gpu-2"]]


def test_undrain_lets_pods_come_back_and_a_second_one_has_nothing_to_do(gpu_server: ApiServer, namespace: str) -> None:
    serve(gpu_server, namespace)
    out(gpu_server, namespace, "gpu-1")
    again, _, _ = out(gpu_server, namespace, "gpu-1")
    assert again.startswith("gpu-1 takes no new pods; no pod of this stack was there\n")
    assert again.endswith("`fleet undrain -s prod gpu-1` lets it take pods again")
    assert pod_nodes.lines(rollouts(gpu_server, namespace), "prod") == [
        "gpu-1: drained; `fleet undrain -s prod gpu-1` lets it take pods again"
    ]
    words = pod_drain.back("prod", rollouts(gpu_server, namespace), "gpu-1")
    assert words == "gpu-1 takes pods again; those that run elsewhere stay there"
    support.wait(lambda: len(ready(gpu_server, namespace)) == 2, "the pod that waited serves there")
    assert node(gpu_server, "gpu-1").drained_by == ""
    assert pod_drain.back("prod", rollouts(gpu_server, namespace), "gpu-1") == "gpu-1 is not drained"


@pytest.mark.parametrize(
    ("by", "who"),
    [("", r"somebody else \(python-httpx, 20\d\d-.+Z\)"), ("air", "the stack in namespace air")],
    ids=["nobody", "another stack"],
)
def test_a_cordon_of_somebody_else_is_left_as_it_is(gpu_server: ApiServer, namespace: str, by: str, who: str) -> None:
    mark(gpu_server, "gpu-1", True, by or None)
    report, _, _ = out(gpu_server, namespace, "gpu-1")
    assert report.endswith("had cordoned it before: `fleet undrain` leaves that as it is")
    with pytest.raises(errors.FleetError) as caught:
        pod_drain.back("prod", rollouts(gpu_server, namespace), "gpu-1")
    assert re.fullmatch(f"{who} has cordoned it", caught.value.seen)
    [line] = pod_nodes.lines(rollouts(gpu_server, namespace), "prod")
    assert re.fullmatch(f"gpu-1: cordoned by {who}; who ends that knows why: kubectl .* uncordon gpu-1", line)
    assert (node(gpu_server, "gpu-1").cordoned, node(gpu_server, "gpu-1").drained_by) == (True, by)


def give(server: ApiServer, name: str, namespace: str, *more: rights.Rule) -> None:
    """Make an account of a namespace with what each stack has, and more; those about nodes are of the whole cluster."""
    wide = [rights.NODES, *(rule for rule in more if "nodes" in rule["resources"])]
    server.add_account(name, namespace, [dict(rule) for rule in (*rights.WATCHED, *more) if rule not in wide])
    role = {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": wide}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    server.apply(role, *rights.bindings([role], subject))


def test_with_the_rights_of_drain_it_works_and_without_them_the_message_says_what_is_missing(
    gpu_server: ApiServer, namespace: str
) -> None:
    pods = serve(gpu_server, namespace)
    give(gpu_server, "watcher", namespace)
    with pytest.raises(errors.FleetError) as caught:
        out(gpu_server, namespace, "gpu-1", "watcher")
    assert 'cannot patch resource "nodes" in API group ""' in caught.value.seen
    assert caught.value.wanted == "the rights that `fleet rights --drain` prints"
    assert caught.value.next.endswith("cordon gpu-1; then `fleet drain` again evicts the pods")
    assert not node(gpu_server, "gpu-1").cordoned
    give(gpu_server, "evicter", namespace, rights.EVICT)
    mark(gpu_server, "gpu-1", True, None)  # by the cluster's owner
    report, empty, _ = out(gpu_server, namespace, "gpu-1", "evicter")
    assert empty and pods["gpu-1"] in report
    mark(gpu_server, "gpu-1", None, None)
    give(gpu_server, "drainer", namespace, rights.EVICT, rights.CORDON)
    out(gpu_server, namespace, "gpu-1", "drainer")
    assert node(gpu_server, "gpu-1").drained_by == namespace
    pod_drain.back("prod", rollouts(gpu_server, namespace, "drainer"), "gpu-1")
    assert not node(gpu_server, "gpu-1").cordoned


def test_names_that_are_no_node_are_refused_with_what_to_do(gpu_server: ApiServer, namespace: str) -> None:
    with pytest.raises(errors.FleetError) as caught:
        out(gpu_server, namespace, "gpu-3")
    assert (caught.value.seen, caught.value.wanted) == ("no such node with GPUs", "gpu-1, gpu-2")
    with pytest.raises(errors.FleetError) as caught:
        out(gpu_server, namespace, "glm/glm-abc")
    assert caught.value.seen == "Kubernetes replaces a pod as soon as it has gone: no pod stays drained"
    assert caught.value.next.endswith(f"delete pod -n {namespace} glm-abc")
    with pytest.raises(errors.FleetError) as caught:
        pod_drain.out("prod", {}, "gpu-1", False, 1, print)
    assert caught.value.seen == "the stack has no pods"
