"""The nodes of a cluster, as its API server has them: their GPUs, whether they take pods, and which have the labels of a stack.

Needs the right to list nodes. Called by gpus.py, the provider and the verbs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import errors, printable
from fleet.cluster import managers
from fleet.cluster.client import Cluster
from fleet.cluster.forms import CONDITIONS, KEY, METADATA, RESOURCES, WORDS, holds
from fleet.validators import Each, Flag, Record

GPU = "amd.com/gpu"
PATH = "/api/v1/nodes"
DRAINED_BY = "glm-fleet/drained-by"  # annotation: the namespace of the stack that has cordoned the node
TAINTS = Each(Record({"key": KEY, "effect": KEY}, {"value": WORDS}, open=True), most=200)
NODE = Record(
    {"metadata": METADATA},
    {
        "spec": Record({}, {"unschedulable": Flag(), "taints": TAINTS}, open=True),
        "status": Record({}, {"allocatable": RESOURCES, "capacity": RESOURCES, "conditions": CONDITIONS}, open=True),
    },
    open=True,
)
# {label: the values that it may have}
Selector = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Node:
    """One node: the GPUs that pods may have, whether its kubelet reports, and whether it takes new pods.

    `drained_by` is the namespace of the stack that has cordoned it, "" if nobody has by `fleet drain`; `cordoned_with` is the program that has
    set its present cordon and when, "" without one.
    """

    name: str
    labels: Mapping[str, str]
    gpus: int
    ready: bool
    cordoned: bool
    taints: tuple[str, ...] = ()
    drained_by: str = ""
    cordoned_with: str = ""

    def fits(self, selector: Selector) -> bool:
        """Return whether each label has one of its values."""
        return all(self.labels.get(label) in values for label, values in selector.items())

    @property
    def state(self) -> str:
        """Why it takes no new pod; "" if it does."""
        return "not ready" if not self.ready else "cordoned" if self.cordoned else ""


def read(cluster: Cluster) -> list[Node]:
    """Return all nodes. Raises FleetError."""
    return [node(item) for item in cluster.list("list the nodes", PATH, NODE)]


def with_gpus(cluster: Cluster, selector: Selector) -> list[Node]:
    """Return the nodes with these labels and GPUs, by name. Raises FleetError where there is none, with what is missing."""
    nodes = read(cluster)
    chosen = [node for node in nodes if node.fits(selector)]
    if able := [node for node in chosen if node.gpus]:
        return sorted(able, key=lambda node: node.name)
    raise _none(cluster, nodes, chosen, selector)


def node(item: Mapping[str, Any]) -> Node:
    """Return a node from its object, whose form is right."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    return Node(
        name=item["metadata"]["name"],
        labels=item["metadata"].get("labels") or {},
        gpus=whole((status.get("allocatable") or {}).get(GPU)),
        ready=holds(status, "Ready"),
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(taint["key"] for taint in spec.get("taints") or ()),
        cordoned_with=managers.setter(item["metadata"].get("managedFields"), "spec", "unschedulable"),
        drained_by=printable.short((item["metadata"].get("annotations") or {}).get(DRAINED_BY, "")),
    )


def whole(quantity: Any) -> int:
    """Return a quantity of devices, which Kubernetes counts in whole numbers; 0 for none."""
    return int(quantity) if isinstance(quantity, str) and quantity.isdecimal() else 0


def _none(cluster: Cluster, nodes: Sequence[Node], chosen: Sequence[Node], selector: Selector) -> errors.NotReady:
    """Return the error without a node to serve on: no node has GPUs, none of those has the labels, or those with labels have no GPUs."""
    able = [node for node in nodes if node.gpus]
    doing, labels = "find the nodes with GPUs", words(selector)
    if chosen:
        return errors.NotReady(
            node=cluster.name,
            doing=doing,
            seen=f"{_names(chosen)} {'has' if len(chosen) == 1 else 'have'} {labels}, and no {GPU}",
            wanted=f"{GPU} among what the nodes offer",
            next="the device plugin's pod on these nodes: does it run, and is the driver loaded? "
            + cluster.access.kubectl("describe", "node", chosen[0].name),
        )
    if able:
        missing = [f"{label}: {_values(able, label)}" for label in selector]
        return errors.NotReady(
            node=cluster.name,
            doing=doing,
            seen="\n".join(
                [f"{_names(able)} {'has' if len(able) == 1 else 'have'} {GPU}, and not the labels", *missing]
            ),
            wanted=labels,
            next="AMD's labeller sets these labels; `node_labels` of glm-fleet:kubernetes names others",
        )
    return errors.NotReady(
        node=cluster.name,
        doing=doing,
        seen=f"none of {len(nodes)} node{'' if len(nodes) == 1 else 's'} has {GPU}",
        wanted=f"nodes with {labels}",
        next="is it the right cluster? If so, it lacks AMD's device plugin (or the GPU operator), or nodes with GPUs",
    )


def words(selector: Selector) -> str:
    """Return a selector in words."""
    return ", ".join(f"{label}={' or '.join(values)}" for label, values in selector.items())


def _values(nodes: Iterable[Node], label: str) -> str:
    """Return which values a label has on these nodes, in words."""
    values = [node.labels.get(label) for node in nodes]
    known = ", ".join(sorted({value for value in values if value is not None}))
    return f"{known}{' or absent' if known and None in values else ''}" or "absent"


def _names(nodes: Sequence[Node], most: int = 6) -> str:
    more = f" and {len(nodes) - most} more" if len(nodes) > most else ""
    return ", ".join(node.name for node in nodes[:most]) + more
