"""`fleet show` on a cluster names each GPU node of the stack that takes no new pods, and why: whose cordon it is, or that it is not ready."""

from typing import Any

import pytest

from fleet.cli import show
from fleet.cluster import nodes
from tests.support.scripted_api import CONTEXT, ScriptedApi

LABEL = "amd.com/gpu.product-name"
WHEN = "2026-11-30T07:00:00Z"


def node(name: str, ready: bool = True, by: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a node; `by` is the namespace of the stack that has cordoned it, "" for a cordon of somebody else."""
    metadata = {"name": name, "uid": name, "labels": {LABEL: "AMD_Instinct_MI300X_OAM"}, **more}
    return {
        "metadata": {**metadata, **({"annotations": {nodes.DRAINED_BY: by}} if by else {})},
        "spec": {} if by is None else {"unschedulable": True},
        "status": {"allocatable": {nodes.GPU: "8"}, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def set_by(manager: Any) -> list[Any]:
    """Return the managed fields of a node whose cordon a manager has set."""
    return [
        {"manager": "kubelet", "operation": "Update", "time": WHEN, "fieldsV1": {"f:status": {}}},
        {"manager": manager, "operation": "Update", "time": WHEN, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}},
    ]


def shown(api: ScriptedApi) -> list[str]:
    cluster = {"context": CONTEXT, "kubeconfig": str(api.kubeconfig)}
    rollout = {"cluster": cluster, "namespace": "glm", "selector": {LABEL: ["AMD_Instinct_MI300X_OAM"]}}
    [text] = show._rotation({"rollouts": {"glm": rollout, "air": rollout}}, "prod") or [""]
    return text.replace(f"kubectl --kubeconfig {api.kubeconfig} --context prod", "KUBECTL").splitlines()


def test_each_node_that_takes_no_pods_is_named_with_who_has_cordoned_it(api: ScriptedApi) -> None:
    other = {"metadata": {"name": "no-gpus", "uid": "1"}, "spec": {"unschedulable": True}}
    api.page(
        nodes.PATH,
        node("e", ready=False),
        node("d", by="", managedFields=set_by("kubectl-cordon")),
        node("c", by="", ready=False),
        node("b", by="air"),
        node("a", by="glm"),
        node("serves"),
        other,
    )
    assert shown(api) == [
        "a: drained; `fleet undrain -s prod a` lets it take pods again",
        "b: cordoned by the stack in namespace air; who ends that knows why: KUBECTL uncordon b",
        "c: cordoned by somebody else; it is not ready, too; who ends that knows why: KUBECTL uncordon c",
        f"d: cordoned by somebody else (kubectl-cordon, {WHEN}); who ends that knows why: KUBECTL uncordon d",
        "e: not ready; KUBECTL describe node e",
    ]


def test_nodes_that_all_take_pods_are_not_mentioned(api: ScriptedApi) -> None:
    api.page(nodes.PATH, node("a"), node("b"))
    assert shown(api) == []


def test_without_the_right_to_list_nodes_the_table_comes_without_them(api: ScriptedApi) -> None:
    message = 'nodes is forbidden: User "reader" cannot list resource "nodes" in API group "" at the cluster scope'
    api.answers[nodes.PATH] = (403, {"kind": "Status", "reason": "Forbidden", "message": message})
    assert shown(api) == ["nodes: no right to list them: a cordon is not shown"]


@pytest.mark.parametrize(
    "fields", ["kubectl", [7], [{"fieldsV1": "f:spec"}], [{"fieldsV1": {"f:spec": ["f:unschedulable"]}}]]
)
def test_managed_fields_of_a_wrong_form_name_nobody(api: ScriptedApi, fields: Any) -> None:
    api.page(nodes.PATH, node("a", by="", managedFields=fields))
    assert shown(api) == ["a: cordoned by somebody else; who ends that knows why: KUBECTL uncordon a"]


def test_a_manager_cannot_drive_a_terminal(api: ScriptedApi) -> None:
    api.page(nodes.PATH, node("a", by="", managedFields=set_by("kubectl\x1b]52;c;x\x07\n")))
    [line] = shown(api)
    assert line.isprintable()
