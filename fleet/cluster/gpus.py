"""Who holds which GPUs of a cluster: the free ones of each node, and the pods on it.

Pure but for `look`. Called by rollout.py for a shortage, and by the verbs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet import errors
from fleet.cluster import nodes, pods
from fleet.cluster.client import Cluster
from fleet.cluster.nodes import Node, Selector
from fleet.cluster.pods import Pod

MOST = 12  # nodes in a message


@dataclass(frozen=True)
class Share:
    """The GPUs of one node, and the pods that hold some of them."""

    node: Node
    holders: tuple[Pod, ...]

    @property
    def free(self) -> int:
        """How many GPUs no pod holds."""
        return self.node.gpus - sum(pod.gpus for pod in self.holders)

    def __str__(self) -> str:
        held = ", ".join(
            f"{pod.namespace}/{pod.name} {pod.gpus}{' (ends)' if pod.deleting else ''}" for pod in self.holders
        )
        state = f" ({self.node.state})" if self.node.state else ""
        return f"{self.node.name}{state}: {self.free} of {self.node.gpus} free{f'; {held}' if held else ''}"


@dataclass(frozen=True)
class Shares:
    """The GPUs of the nodes of a selector. `whole` is False where other namespaces' pods cannot be read, or `free` would be known."""

    shares: Sequence[Share]
    whole: bool = True

    def lines(self) -> list[str]:
        """Return a line for each node, and one about what could not be read."""
        more = len(self.shares) - MOST
        lines = [str(share) for share in self.shares[:MOST]] + ([f"and {more} more nodes"] if more > 0 else [])
        return lines if self.whole else [*lines, "(pods of other namespaces: no right to list them)"]


def look(cluster: Cluster, selector: Selector, namespace: str) -> Shares:
    """Return who holds the GPUs now; only of this namespace's pods without the right to list all. Raises FleetError."""
    try:
        every, whole = pods.everywhere(cluster), True
    except errors.ClusterRefused as error:
        if error.code != 403:
            raise
        every, whole = pods.of_namespace(cluster, namespace, {}), False
    return Shares(share(nodes.read(cluster), every, selector), whole)


def share(all_nodes: Iterable[Node], every: Sequence[Pod], selector: Selector) -> list[Share]:
    """Return the share of each node that has the labels and GPUs, by name."""
    able = [node for node in all_nodes if node.gpus and node.fits(selector)]
    return [
        Share(node, tuple(pod for pod in every if pod.holds_gpus and pod.node == node.name))
        for node in sorted(able, key=lambda node: node.name)
    ]
