"""Runs on a control plane, as root, by `python3 -I -`: takes a member of the cluster out of use for pods, one step at a time, and gives it back.

Called by member_pods.py with {kubectl: [program and options], do, node, owners}, and prints as `do` says
    look      {nodes: {name: {version: of its kubelet, ready, cordoned, in_turn: by our mark, plane: whether it is a control plane}}}
    cordon    {ours}: whether it is cordoned by our mark, and not by somebody else
    evict     {left: [pod that ends], held: {pod: why it stays}, bare: [pod that nobody would make again: then none is evicted],
              owners: [[namespace, uid] of the controllers whose pods were ready here]}
    uncordon  {ours}
    waiting   {waiting: [pod that is not ready]}, of those of `owners`, elsewhere too where it may have moved
A pod is NAMESPACE/NAME. Evictions respect disruption budgets; pods of DaemonSets and of the node itself stay, and those that have ended.
Needs kubectl and Python 3.10's standard library.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]

MARK = "glm-fleet/in-turn"
PLANE = "node-role.kubernetes.io/control-plane"
MIRROR = "kubernetes.io/config.mirror"
HERE = ("DaemonSet", "Node")  # controllers whose pods stay on their node
TRIES = 5  # of a change that another one's was faster than
BOUND = 60  # seconds of one request
KUBECTL: list[str] = []


def kubectl(*words: str, stdin: str = "") -> tuple[str, str]:
    """Return what kubectl prints, and the last line of its error, "" for none."""
    done = subprocess.run([*KUBECTL, *words], input=stdin, capture_output=True, text=True, timeout=BOUND)
    return done.stdout, (done.stderr.strip().splitlines() or ["kubectl failed"])[-1] if done.returncode else ""


def ask(*words: str) -> Any:
    text, error = kubectl("get", *words, "--output=json")
    if error:
        sys.exit(error)
    return json.loads(text)


def look() -> Facts:
    return {"nodes": {node["metadata"]["name"]: state(node) for node in ask("nodes")["items"]}}


def state(node: Facts) -> Facts:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return {
        "version": node["status"]["nodeInfo"]["kubeletVersion"],
        "ready": conditions.get("Ready") == "True",
        "cordoned": bool(node["spec"].get("unschedulable")),
        "in_turn": MARK in (node["metadata"].get("annotations") or {}),
        "plane": PLANE in (node["metadata"].get("labels") or {}),
    }


def set_cordon(name: str, cordon: bool) -> Facts:
    """Cordon a node with our mark if nobody has, or take away a cordon that has it."""
    error = ""
    for _ in range(TRIES):
        node = ask("node", name)
        now = state(node)
        if now["cordoned"] if cordon else not now["in_turn"]:
            return {"ours": now["in_turn"]}
        metadata = {
            "annotations": {MARK: "true" if cordon else None},
            "resourceVersion": node["metadata"]["resourceVersion"],
        }
        patch = {"metadata": metadata, "spec": {"unschedulable": True if cordon else None}}
        words = ("--type=merge", f"--patch={json.dumps(patch)}", "--field-manager=glm-fleet-turn")
        error = kubectl("patch", "node", name, *words)[1]
        if not error:
            return {"ours": True}
        if "(Conflict)" not in error:
            break
    sys.exit(error)


def controller(pod: Facts) -> Facts:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def label(pod: Facts) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def is_alive(pod: Facts) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Facts) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def stays(pod: Facts) -> bool:
    return controller(pod).get("kind") in HERE or MIRROR in (pod["metadata"].get("annotations") or {})


def evict(name: str) -> Facts:
    pods = [
        pod
        for pod in ask("pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}")["items"]
        if is_alive(pod)
    ]
    owners = sorted(
        {(pod["metadata"]["namespace"], controller(pod)["uid"]) for pod in pods if controller(pod) and is_ready(pod)}
    )
    moving = [pod for pod in pods if not stays(pod)]
    ending = [pod for pod in moving if "deletionTimestamp" in pod["metadata"]]
    asked = [pod for pod in moving if pod not in ending]
    bare = [label(pod) for pod in asked if not controller(pod)]
    held = {} if bare else {label(pod): why for pod in asked if (why := refusal(pod))}
    left = [label(pod) for pod in moving if label(pod) not in held]
    return {"left": left, "held": held, "bare": bare, "owners": owners}


def refusal(pod: Facts) -> str:
    """Ask for the end of a pod; return why it is held back, "" where it ends or has ended."""
    place = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    only = {"preconditions": {"uid": pod["metadata"]["uid"]}}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": place, "deleteOptions": only}
    path = f"/api/v1/namespaces/{place['namespace']}/pods/{place['name']}/eviction"
    error = kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))[1]
    if "(NotFound)" in error or "(Conflict)" in error:
        return ""
    if error and "(TooManyRequests)" not in error:
        sys.exit(error)
    return (error.partition("(TooManyRequests): ")[2] or error)[:300]


def waiting(name: str, owners: list[list[str]]) -> Facts:
    uids, spaces = {uid for _, uid in owners}, sorted({namespace for namespace, _ in owners})
    pods = [pod for space in spaces for pod in ask("pods", f"--namespace={space}")["items"]]
    ours = [
        pod
        for pod in pods
        if controller(pod).get("uid") in uids and is_alive(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    ours = [pod for pod in ours if controller(pod)["kind"] not in HERE or pod["spec"].get("nodeName") == name]
    return {"waiting": [label(pod) for pod in ours if not is_ready(pod)]}


def main(arguments: Facts) -> None:
    KUBECTL[:] = arguments["kubectl"]
    name = arguments["node"]
    steps: dict[str, Callable[[], Facts]] = {
        "look": look,
        "cordon": lambda: set_cordon(name, True),
        "evict": lambda: evict(name),
        "uncordon": lambda: set_cordon(name, False),
        "waiting": lambda: waiting(name, arguments["owners"]),
    }
    print(json.dumps(steps[arguments["do"]]()))
