"""The function `cluster_nodes`: the names of a cluster's nodes with GPUs, before anything is declared on it.

It is also where a stack's mistakes about its cluster are found first: another context, credentials that have expired, too few rights, no GPU
nodes, a namespace of somebody else. Called by the servicer. Needs fleet.cluster.
"""

from fleet import errors
from fleet.cluster import Access, Cluster, namespaces, nodes
from fleet.provider.base import Request
from fleet.provider.properties import Props


def ask(arguments: Props, request: Request) -> Props:
    """Return {nodes: names, left: names of those that take no pods now}, or {error: message}.

    Arguments: {cluster: {context, kubeconfig}, selector: {label: values}, namespaces: names, owner: [ORGANIZATION/]PROJECT/STACK}.
    """
    try:
        cluster = Cluster(Access.from_inputs(arguments["cluster"]), request.cancelled)
        for name in arguments.get("namespaces") or ():
            namespaces.check_owner(cluster, name, str(arguments["owner"]))
        found = nodes.with_gpus(cluster, arguments["selector"])
    except errors.FleetError as error:
        return {"error": str(error)}
    left = [node for node in found if node.state]
    if left:
        request.warn(f"{', '.join(f'{node.name} ({node.state})' for node in left)}: nothing is put there now")
    return {"nodes": [node.name for node in found if not node.state], "left": [node.name for node in left]}
