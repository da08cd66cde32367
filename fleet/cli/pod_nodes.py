"""The GPU nodes of a cluster that take no new pods, and why, in words. fleet.cluster.nodes asks the API server.

Called by show.py and pod_drain.py.
"""

import shlex
from collections.abc import Mapping

from fleet import errors
from fleet.cli.pods import Rollout
from fleet.cluster import Access, Cluster, nodes
from fleet.cluster.nodes import Node


def lines(rollouts: Mapping[str, Rollout], stack: str) -> list[str]:
    """Return a line for each node of the stack's models that takes no new pods. Raises FleetError."""
    if not rollouts:
        return []
    first = next(iter(rollouts.values()))  # all models of a stack are on the same nodes
    access, namespace = Access.from_inputs(first["cluster"]), str(first["namespace"])
    selector = first.get("selector") or {}
    try:
        every = nodes.read(Cluster(access))
    except errors.ClusterRefused as error:
        if error.code != 403:
            raise
        return ["nodes: no right to list them: a cordon is not shown"]
    closed = sorted((node for node in every if node.state and node.fits(selector)), key=lambda node: node.name)
    return [f"{node.name}: {_why(node, namespace, stack, access)}" for node in closed]


def _why(node: Node, namespace: str, stack: str, access: Access) -> str:
    if not node.cordoned:
        return f"{node.state}; {access.kubectl('describe', 'node', node.name)}"
    also = "; it is not ready, too" if not node.ready else ""
    if node.drained_by == namespace:
        return (
            f"drained{also}; `fleet undrain -s {shlex.quote(stack)} {shlex.quote(node.name)}` lets it take pods again"
        )
    return f"cordoned by {who(node)}{also}; who ends that knows why: {access.kubectl('uncordon', node.name)}"


def who(node: Node) -> str:
    """Return who has cordoned a node: the stack that did it by `fleet drain`, else the program with which somebody did it."""
    if node.drained_by:
        return f"the stack in namespace {node.drained_by}"
    return f"somebody else ({node.cordoned_with})" if node.cordoned_with else "somebody else"
