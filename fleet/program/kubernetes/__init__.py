"""A stack on a Kubernetes cluster: its objects, and the inputs of each model's Rollout.

    namespace   namespaces with Pod Security, the quota, the network policies
    weights     volumes and claims of the weights, the Jobs that fill and verify them
    serving     a model's Deployment, its key, its Service, its disruption budget
    endpoint    HTTPRoute or Ingress, PodMonitor
    pod_files   the files that the pods mount; those that exist only there are in pod/
    declare     the objects as Pulumi's resources: the only module here that needs Pulumi

`objects` returns all of them as data, for a program, a server's dry run, and tests. Called by `__main__.py` and fleet.cli.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fleet.program.kubernetes import endpoint, namespace, serving, weights
from fleet.program.kubernetes.objects import TEMPLATE, Object, Stack, made
from fleet.stack import validate

__all__ = ["Object", "Stack", "cluster_inputs", "node_question", "objects", "rollout", "urls"]


def objects(stack: Stack, api_key: str, nodes: Sequence[str], key: Any = "", token: Any = None) -> Iterator[Object]:
    """Yield every object of a stack, each after those that it needs.

    `nodes` are the GPU nodes, each of which gets a Job where the weights are in a folder of it. `key` and `token` go into the Secrets, in
    Pulumi's form of a secret or in clear: the content of the key's file (VLLM_API_KEY=KEY), and the hub's token or None.
    """
    yield from namespace.objects(stack)
    secret = serving.key_secret(stack, api_key, key)
    yield secret
    if token is not None and stack.cluster.filled:
        space = stack.cluster.jobs_namespace
        manifest = made("v1", "Secret", weights.TOKEN, space, type="Opaque", stringData={"token": token})
        yield Object(manifest, (f"Namespace/{space}",))
    filled: list[Object] = [*weights.volumes(stack), *weights.jobs(stack, nodes, token is not None)]
    yield from filled
    # Models with the same files share their ConfigMap.
    keys: set[str] = set()
    for model in stack.cluster.models:
        for item in serving.objects(stack, model, secret, tuple(each.key for each in filled)):
            if item.key not in keys:
                keys.add(item.key)
                yield item
    yield from endpoint.objects(stack)


def urls(stack: Stack, model: str) -> dict[str, str]:
    """Return where a model answers: inside of the cluster, and for clients if it has a host."""
    host = stack.cluster.models[model].host
    outside = {"endpoint": f"https://{host}/v1"} if host else {}
    return {"service": f"http://{model}.{stack.cluster.namespace}.svc/v1", **outside}


def rollout(stack: Stack, deployment: Object) -> dict[str, Any]:
    """Return the inputs of the Rollout of a model's Deployment, but for the secret key and the probes."""
    model = deployment.manifest["metadata"]["name"]
    cluster, form = stack.cluster, stack.cluster.models[model]
    return {
        "cluster": cluster_inputs(stack),
        "namespace": cluster.namespace,
        "deployment": model,
        "template": deployment.manifest["spec"]["template"]["metadata"]["annotations"][TEMPLATE],
        "selector": cluster.node_labels,
        "port": namespace.PORT,
        "replicas": form.replicas,
        "surge": form.surge,
        "gpus": stack.gpus(model),
        "deadline": deployment.seconds,
        "image": cluster.image,
        "model": stack.values(model)["vllm_served_model_name"],
        "vars": validate.model_own(stack.settings, stack.roles, model),
    }


def cluster_inputs(stack: Stack) -> dict[str, str]:
    """Return how the provider reaches the cluster: the context, and the kubeconfig as the stack file names it."""
    path = stack.cluster.kubeconfig
    return {"context": stack.cluster.context, **({"kubeconfig": path} if path else {})}


def node_question(stack: Stack) -> dict[str, Any]:
    """Return the arguments of the invoke `cluster_nodes`, which finds the GPU nodes, and refuses a namespace of somebody else."""
    cluster = stack.cluster
    return {
        "cluster": cluster_inputs(stack),
        "selector": cluster.node_labels,
        "namespaces": list(dict.fromkeys([cluster.namespace, cluster.jobs_namespace])),
        "owner": stack.owner,
    }
