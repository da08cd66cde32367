"""The rights that a stack on a cluster needs, and no other: Roles for who runs `pulumi up` and the verbs, from the stack's own objects.

Pure. Called by fleet.cli.rights.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.program import kubernetes
from fleet.program.kubernetes.objects import PLURALS, Manifest, Stack

GROUP = "rbac.authorization.k8s.io"
# Pulumi's plugin applies, which creates (patch, create); reads back (get); waits for an object (list, watch); and deletes.
OWN = ("create", "delete", "get", "list", "patch", "watch")
Rule = Mapping[str, Any]


def _rule(group: str, resources: Iterable[str], verbs: Iterable[str], names: Iterable[str] = ()) -> Rule:
    rule = {"apiGroups": [group], "resources": sorted(resources), "verbs": sorted(verbs)}
    return {**rule, **({"resourceNames": sorted(names)} if names else {})}


# Of the whole cluster: the GPU nodes by name, for a Job on each.
NODES = _rule("", ["nodes"], ["get", "list"])
# In a namespace: how far pods are and why, their last lines, the probes through a port-forward.
WATCHED = (
    _rule("", ["events", "pods"], ["get", "list", "watch"]),
    _rule("", ["pods/log"], ["get"]),
    _rule("", ["pods/portforward"], ["create", "get"]),
    _rule("apps", ["replicasets"], ["get", "list", "watch"]),
)

# What `fleet drain` needs besides. Kubernetes has no smaller right to cordon: who may patch a node may also change its labels and taints.
CORDON = _rule("", ["nodes"], ["patch"])
EVICT = _rule("", ["pods/eviction"], ["create"])


def roles(stack: Stack, name: str) -> list[Manifest]:
    """Return the ClusterRole and the Role of each namespace, all with this name."""
    manifests = [item.manifest for item in kubernetes.objects(stack, "", ("any",), token="any")]
    wide = [manifest for manifest in manifests if "namespace" not in manifest["metadata"]]
    spaces = list(dict.fromkeys([stack.cluster.namespace, stack.cluster.jobs_namespace]))
    return [
        _role(name, "", [*_named(wide), NODES]),
        *(_role(name, space, [*_own(manifests, space), *WATCHED]) for space in spaces),
    ]


def drain_roles(stack: Stack, name: str) -> list[Manifest]:
    """Return what `fleet drain` and `fleet undrain` need besides: a ClusterRole, and a Role where the models are."""
    return [_role(name, "", [CORDON]), _role(name, stack.cluster.namespace, [EVICT])]


def bindings(made: Iterable[Manifest], subject: Mapping[str, str]) -> list[Manifest]:
    """Return a binding of each role to a subject: {kind: User, Group or ServiceAccount; name; namespace of a ServiceAccount}."""
    return [
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": f"{role['kind']}Binding",
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": GROUP, "kind": role["kind"], "name": role["metadata"]["name"]},
            "subjects": [dict(subject) if subject["kind"] == "ServiceAccount" else {"apiGroup": GROUP, **subject}],
        }
        for role in made
    ]


def _named(manifests: Iterable[Manifest]) -> list[Rule]:
    """Return the rules for objects of the whole cluster: each by its name."""
    names: dict[str, list[str]] = {}
    for manifest in manifests:
        names.setdefault(manifest["kind"], []).append(manifest["metadata"]["name"])
    return [_rule("", [PLURALS[kind]], OWN, each) for kind, each in names.items()]


def _own(manifests: Iterable[Manifest], namespace: str) -> list[Rule]:
    """Return the rules for the kinds of objects that the stack has in a namespace."""
    by_group: dict[str, set[str]] = {}
    for manifest in manifests:
        if manifest["metadata"].get("namespace") == namespace:
            group = manifest["apiVersion"].rpartition("/")[0]
            by_group.setdefault(group, set()).add(PLURALS[manifest["kind"]])
    return [_rule(group, resources, OWN) for group, resources in by_group.items()]


def _role(name: str, namespace: str, rules: Sequence[Rule]) -> Manifest:
    """Return a Role of a namespace, without one a ClusterRole."""
    place = {"namespace": namespace} if namespace else {}
    kind = "Role" if namespace else "ClusterRole"
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name, **place}, "rules": list(rules)}
