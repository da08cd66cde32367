"""Declares the objects as resources of Pulumi's Kubernetes SDK, each after those that it needs, with the stack's context and no other."""

import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes

from fleet.program.kubernetes.objects import Object, Stack

# kind → class of the SDK; another kind is a CustomResource.
CLASSES = {
    "Namespace": "core.v1.Namespace",
    "ResourceQuota": "core.v1.ResourceQuota",
    "Secret": "core.v1.Secret",
    "ConfigMap": "core.v1.ConfigMap",
    "Service": "core.v1.Service",
    "PersistentVolume": "core.v1.PersistentVolume",
    "PersistentVolumeClaim": "core.v1.PersistentVolumeClaim",
    "Job": "batch.v1.Job",
    "Deployment": "apps.v1.Deployment",
    "PodDisruptionBudget": "policy.v1.PodDisruptionBudget",
    "NetworkPolicy": "networking.v1.NetworkPolicy",
    "Ingress": "networking.v1.Ingress",
}
# The SDK's names of what a manifest has at its top beside apiVersion, kind and metadata.
ARGUMENTS = {"binaryData": "binary_data", "stringData": "string_data"}


def provider(stack: Stack) -> pulumi_kubernetes.Provider:
    """Return the provider of the stack's context: without a path the plugin reads the file that KUBECONFIG names, else ~/.kube/config."""
    path = stack.cluster.kubeconfig
    return pulumi_kubernetes.Provider(
        "kubernetes", context=stack.cluster.context, kubeconfig=str(Path(path).expanduser()) if path else None
    )


def declare(
    stack: Stack, objects: Iterable[Object], cluster: pulumi_kubernetes.Provider
) -> Mapping[str, pulumi.Resource]:
    """Declare the objects, in an order in which each comes after those that it needs; return the resources by their objects' keys."""
    resources: dict[str, pulumi.Resource] = {}
    for item in objects:
        timeouts = pulumi.CustomTimeouts(create=f"{item.seconds}s", update=f"{item.seconds}s")
        after = [resources[key] for key in dict.fromkeys(item.after)]
        options = pulumi.ResourceOptions(
            provider=cluster, depends_on=after, custom_timeouts=timeouts, protect=stack.protects(item.guard)
        )
        resources[item.key] = _resource(item.manifest, item.name, options)
    return resources


def _resource(manifest: Mapping[str, Any], name: str, options: pulumi.ResourceOptions) -> pulumi.Resource:
    content = {
        ARGUMENTS.get(part, part): value for part, value in manifest.items() if part not in ("apiVersion", "kind")
    }
    if path := CLASSES.get(manifest["kind"]):
        made: pulumi.Resource = operator.attrgetter(path)(pulumi_kubernetes)(name, **content, opts=options)
    else:
        custom = pulumi_kubernetes.apiextensions.CustomResource
        made = custom(name, manifest["apiVersion"], manifest["kind"], **content, opts=options)
    return made
