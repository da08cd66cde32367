"""The function `cluster_nodes` finds a stack's mistakes about its cluster before anything is declared there, and returns the nodes."""

import threading
from typing import Any

from fleet.cluster import namespaces, nodes
from fleet.provider import cluster_nodes
from fleet.provider.base import Request
from tests.support.scripted_api import CONTEXT, ScriptedApi

LABEL = "amd.com/gpu.product-name"
OWNER = "acme/glm-fleet/prod"


def node(name: str, ready: bool = True, cordoned: bool = False) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "uid": name, "labels": {LABEL: "AMD_Instinct_MI300X_OAM"}},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"allocatable": {nodes.GPU: "8"}, "conditions": conditions},
    }


def ask(api: ScriptedApi, **more: Any) -> tuple[dict[str, Any], list[str]]:
    warnings: list[str] = []
    urn = "urn:pulumi:prod::glm-fleet::pulumi:pulumi:Stack::glm-fleet-prod"
    request = Request(urn, lambda text, ephemeral: None, threading.Event(), warnings.append)
    arguments = {
        "cluster": {"context": CONTEXT, "kubeconfig": str(api.kubeconfig)},
        "selector": {LABEL: ["AMD_Instinct_MI300X_OAM"]},
        "namespaces": ["glm", "glm-weights"],
        "owner": OWNER,
        **more,
    }
    return cluster_nodes.ask(arguments, request), warnings


def test_it_returns_the_nodes_that_take_pods_and_warns_of_the_others(api: ScriptedApi) -> None:
    api.page(nodes.PATH, node("c", cordoned=True), node("b"), node("a"), node("d", ready=False))
    answer, warnings = ask(api)
    assert answer == {"nodes": ["a", "b"], "left": ["c", "d"]}
    assert warnings == ["c (cordoned), d (not ready): nothing is put there now"]


def test_a_mistake_is_its_message_and_no_later_question_is_asked(api: ScriptedApi) -> None:
    other = {"name": "glm", "uid": "1", "annotations": {namespaces.OWNER: "acme/glm-fleet/staging"}}
    api.answers["/api/v1/namespaces/glm"] = (200, {"metadata": other})
    answer, _ = ask(api)
    assert answer["error"].startswith("prod: take namespace glm: it belongs to the stack acme/glm-fleet/staging\n")
    assert api.asked == ["/api/v1/namespaces/glm"]


def test_an_unknown_context_is_a_message_without_a_question(api: ScriptedApi) -> None:
    answer, _ = ask(api, cluster={"context": "prob", "kubeconfig": str(api.kubeconfig)})
    assert "did you mean prod?" in answer["error"]
    assert not api.asked
