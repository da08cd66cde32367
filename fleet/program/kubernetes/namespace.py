"""The namespaces of a stack, with what they enforce: Pod Security, a quota, and no traffic that no policy allows."""

from collections.abc import Iterator
from typing import Any

from fleet.program.kubernetes.objects import CLIENT, GPU, MODEL, OWNER, Object, Stack, label, made
from fleet.stack.cluster_names import NAMESPACE

SECURITY = "pod-security.kubernetes.io/"
NAMED = "kubernetes.io/metadata.name"  # label that Kubernetes gives each namespace
JOB = "glm-fleet/job"  # label of the pods of Jobs
PORT = 8000
# Addresses at which clouds hand out credentials.
LINK_LOCAL = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}


def objects(stack: Stack) -> Iterator[Object]:
    """Yield the namespaces, their policies and the quota."""
    cluster = stack.cluster
    yield _namespace(stack, cluster.namespace, "restricted")
    yield _quota(stack)
    yield _policy(cluster.namespace, "default-deny", {}, ingress=[], egress=[])
    yield _policy(
        cluster.namespace, "models", {"matchExpressions": [{"key": MODEL, "operator": "Exists"}]}, _clients(stack)
    )
    if cluster.jobs_namespace != cluster.namespace:
        # As root, a Job can write to a folder of its node; `restricted` forbids root.
        yield _namespace(stack, cluster.jobs_namespace, "baseline")
        yield _policy(cluster.jobs_namespace, "default-deny", {}, ingress=[], egress=[])
    if cluster.filled:
        yield _policy(cluster.jobs_namespace, "weights", {"matchLabels": {JOB: "weights"}}, egress=_outside())


def policies(stack: Stack) -> tuple[str, ...]:
    """Return the keys of the objects that must exist before a pod does."""
    return tuple(item.key for item in objects(stack))


def _namespace(stack: Stack, name: str, level: str) -> Object:
    labels = {f"{SECURITY}enforce": level, f"{SECURITY}warn": "restricted" if level == "restricted" else level}
    owner = {OWNER: label(stack.owner)}
    manifest = made("v1", "Namespace", name, labels={**labels, **owner}, annotations={OWNER: stack.owner})
    return Object(manifest, guard=NAMESPACE)


def _quota(stack: Stack) -> Object:
    """Return the quota: what the stack names, the pods that still end during a change, which count too, and what it leaves to spare."""
    cluster, models = stack.cluster, stack.cluster.models
    ending = {name: max(1, model.surge) for name, model in models.items()}
    gpus = sum((model.replicas + ending[name]) * stack.gpus(name) for name, model in models.items())
    pods = sum(model.replicas + model.surge + ending[name] for name, model in models.items())
    hard = {f"requests.{GPU}": str(gpus + cluster.quota.gpus), "pods": str(pods + cluster.quota.pods)}
    manifest = made("v1", "ResourceQuota", "models", cluster.namespace, spec={"hard": hard})
    return Object(manifest, (f"Namespace/{cluster.namespace}",))


def _policy(
    namespace: str, name: str, pods: dict[str, Any], ingress: list[Any] | None = None, egress: list[Any] | None = None
) -> Object:
    """Return a NetworkPolicy; it says nothing of a direction that is None."""
    rules = {"ingress": ingress, "egress": egress}
    spec: dict[str, Any] = {
        "podSelector": pods,
        "policyTypes": [direction.title() for direction, rule in rules.items() if rule is not None],
        **{direction: rule for direction, rule in rules.items() if rule},
    }
    return Object(
        made("networking.k8s.io/v1", "NetworkPolicy", name, namespace, spec=spec), (f"Namespace/{namespace}",)
    )


def _clients(stack: Stack) -> list[Any]:
    """Return who may connect to the models: pods with our label, what is before them, and Prometheus."""
    cluster = stack.cluster
    ways = [cluster.endpoint.gateway, cluster.endpoint.ingress] if cluster.endpoint else []
    namespaces = [*cluster.clients_from, *(way.namespace for way in ways if way)]
    namespaces += [cluster.pod_monitor.namespace] if cluster.pod_monitor else []
    named = [{"namespaceSelector": {"matchLabels": {NAMED: name}}} for name in dict.fromkeys(namespaces)]
    own = {"podSelector": {"matchLabels": {CLIENT: "true"}}}
    return [{"from": [own, *named], "ports": [{"port": PORT, "protocol": "TCP"}]}]


def _outside() -> list[Any]:
    """Return what a Job may connect to: any hub, also a pod, and any server of names; not what hands out a cloud's credentials."""
    outside = [{"ipBlock": {"cidr": cidr, "except": [inner]}} for cidr, inner in LINK_LOCAL.items()]
    # Some networks match no pod by its address; a node's own cache of names has a link-local one.
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return [{"to": [*outside, {"namespaceSelector": {}}]}, {"ports": names}]
