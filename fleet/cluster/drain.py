"""Takes a node out of use for the pods of one namespace, and gives it back: cordon, evictions, uncordon.

Kubernetes decides whether a pod may go: an eviction respects the PodDisruptionBudget. Needs the rights to patch nodes and to create evictions
(`fleet rights --drain`). Called by fleet.cli.pod_drain.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet import errors
from fleet.cluster import nodes, pods
from fleet.cluster.client import MANAGER, Cluster
from fleet.cluster.forms import ANY
from fleet.cluster.nodes import DRAINED_BY, Node
from fleet.cluster.pods import Pod
from fleet.validators import Record, Text

INTERVAL = 2.0  # seconds between two looks
TRIES = 5  # of a change that another one's change was faster than
VERSION = Record({"metadata": Record({"resourceVersion": Text(most=64)}, open=True)}, open=True)


@dataclass(frozen=True)
class Outcome:
    """The names of the pods that were evicted, of those that have not ended yet, and why others are held back."""

    evicted: tuple[str, ...]
    ending: tuple[str, ...]
    held: Mapping[str, str]

    @property
    def empty(self) -> bool:
        """Whether no pod is left on the node."""
        return not self.ending and not self.held


def cordon(cluster: Cluster, name: str, namespace: str) -> Node:
    """Let a node take no new pod, with a mark of who says so; return it. One that takes none already stays as it is. Raises FleetError."""

    def change(node: Node) -> Mapping[str, Any] | None:
        mark = {"annotations": {DRAINED_BY: namespace}}
        return None if node.cordoned else {"metadata": mark, "spec": {"unschedulable": True}}

    return _change(cluster, f"cordon {name}", name, change)


def uncordon(cluster: Cluster, name: str, namespace: str) -> Node:
    """Let a node take pods again, if the mark has this namespace; return it as it was. Raises FleetError."""

    def change(node: Node) -> Mapping[str, Any] | None:
        none = {"metadata": {"annotations": {DRAINED_BY: None}}, "spec": {"unschedulable": None}}
        return none if node.drained_by == namespace else None

    return _change(cluster, f"uncordon {name}", name, change)


def _change(cluster: Cluster, doing: str, name: str, change: Callable[[Node], Mapping[str, Any] | None]) -> Node:
    """Make a change of a node, unless somebody else has changed it since it was read; return it as it was read."""
    path = f"{nodes.PATH}/{name}"
    for left in reversed(range(TRIES)):
        item = cluster.get(f"read node {name}", path, nodes.NODE)
        node = nodes.node(item)
        body = change(node)
        if body is None:
            break
        version = _version(cluster, doing, item)
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
        try:
            cluster.send(doing, "PATCH", path, body, ANY, "merge-patch+json", fieldManager=MANAGER)
            break
        except errors.ClusterRefused as error:
            if error.code != 409 or not left:
                raise
    return node


def _version(cluster: Cluster, doing: str, item: Mapping[str, Any]) -> str:
    if mistake := VERSION.mistake(item, ""):
        raise cluster.malformed(doing, mistake.at, mistake.seen, mistake.wanted)
    return str(item["metadata"]["resourceVersion"])


def evict(
    cluster: Cluster, node: str, namespace: str, label: str, seconds: float, note: Callable[[str], None]
) -> Outcome:
    """Evict the pods with this label from a node, and wait until they have ended; for as long as this many seconds. Raises FleetError.

    `note` gets a line when something has changed. What the disruption budget holds back is asked for again until the end.
    """
    end = time.monotonic() + seconds
    gone: dict[str, str] = {}  # names by uid
    last = ""
    while True:
        here = pods.on_node(cluster, namespace, label, node)
        held = {pod.name: why for pod in here if not pod.deleting and (why := _evict(cluster, pod))}
        gone |= {pod.uid: pod.name for pod in here if pod.name not in held}
        left = [pod.name for pod in here if pod.name not in held]
        outcome = Outcome(tuple(gone.values()), tuple(left), held)
        if outcome.empty:
            return outcome
        line = "; ".join(
            [*(f"{name} ends" for name in left), *(f"{name} is held back: {why}" for name, why in held.items())]
        )
        if line != last:
            last = line
            note(line)
        if time.monotonic() > end or cluster.cancelled.wait(INTERVAL):
            return outcome


def _evict(cluster: Cluster, pod: Pod) -> str:
    """Ask for the end of a pod; return why it is held back, "" where it ends."""
    place = {"name": pod.name, "namespace": pod.namespace}
    only = {"preconditions": {"uid": pod.uid}}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": place, "deleteOptions": only}
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/eviction"
    try:
        cluster.once(f"evict pod {pod.name}", "POST", path, body)
    except errors.ClusterRefused as error:
        if error.code == 429:
            return error.seen
        if error.code not in (404, 409):  # it has gone by itself
            raise
    return ""
