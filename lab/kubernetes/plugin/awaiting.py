"""When an object does what it is for, and what to say until then. Called by servicer.py; `lines` asks for the pods of a workload.

Kinds that are done at once: all that no controller has to work on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.cluster import Cluster, pods
from fleet.cluster.forms import ANY, condition
from fleet.validators import Record

SKIP = "pulumi.com/skipAwait"
REPLACE = "pulumi.com/replaceUnready"  # only of a Job
SLICE = Record({"metadata": ANY}, open=True)


@dataclass(frozen=True)
class Wait:
    """What an object still lacks. `failed`: it will not get it any more."""

    text: str
    failed: bool = False


def skipped(manifest: Mapping[str, Any]) -> bool:
    """Return whether the program waits for nobody's work on this object."""
    return _says(manifest, SKIP)


def replaced(manifest: Mapping[str, Any]) -> bool:
    """Return whether the program wants a new object in place of one that is not done at the next update."""
    return manifest["kind"] == "Job" and _says(manifest, REPLACE)


def _says(manifest: Mapping[str, Any], annotation: str) -> bool:
    return str((manifest["metadata"].get("annotations") or {}).get(annotation, "")).lower() == "true"


def missing(cluster: Cluster, live: Mapping[str, Any]) -> Wait | None:
    """Return what a live object lacks, None when it is done. Raises FleetError."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    kind = live["kind"]
    if kind == "Deployment":
        return _deployment(live["metadata"], spec, status)
    if kind == "Job":
        return _job(status)
    if kind == "PersistentVolumeClaim" and status.get("phase") != "Bound":
        return Wait(f"waits for its volume: {status.get('phase', 'Pending')}")
    if kind == "Service" and spec.get("selector") and not _endpoints(cluster, live["metadata"]):
        return Wait("[1/3] Finding Pods to direct traffic to")
    return None


def _deployment(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> Wait | None:
    wanted, total = spec.get("replicas", 1), status.get("replicas", 0)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    progressing = condition(status, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return Wait(str(progressing.get("message", "ProgressDeadlineExceeded")), failed=True)
    if status.get("observedGeneration", 0) >= metadata.get("generation", 0) and updated == available == total == wanted:
        return None
    return Wait(f"[1/2] Waiting for app ReplicaSet to be available ({min(updated, available)}/{wanted} Pods available)")


def _job(status: Mapping[str, Any]) -> Wait | None:
    if condition(status, "Failed").get("status") == "True":
        return Wait(str(condition(status, "Failed").get("message", "failed")), failed=True)
    if condition(status, "Complete").get("status") == "True":
        return None
    counts = " | ".join(f"{name.title()}: {status.get(name, 0)}" for name in ("active", "succeeded", "failed"))
    return Wait(f"[2/2] Waiting for the Job to succeed ({counts})")


def _endpoints(cluster: Cluster, metadata: Mapping[str, Any]) -> bool:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{metadata['namespace']}/endpointslices"
    query = {"labelSelector": f"kubernetes.io/service-name={metadata['name']}"}
    slices = cluster.list(f"list the endpoints of {metadata['name']}", path, SLICE, **query)
    ends = [end for each in slices for end in each.get("endpoints") or ()]
    return any((end.get("conditions") or {}).get("ready") for end in ends)


def lines(cluster: Cluster, live: Mapping[str, Any]) -> list[str]:
    """Return a line for each pod of a workload that is not ready, with its reason. Raises FleetError."""
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels")
    if live["kind"] not in ("Deployment", "Job") or not isinstance(labels, Mapping):
        return []
    every = pods.of_namespace(cluster, live["metadata"]["namespace"], labels)
    return [_line(pod) for pod in every if not pod.ready and not pod.deleting and pod.phase != "Succeeded"]


def _line(pod: pods.Pod) -> str:
    unready = [each.name for each in pod.containers if not each.ready]
    why = next((f"{each.waiting}: {each.message}" for each in pod.containers if each.waiting), "")
    reason = pod.unplaced or why or (f"containers with unready status: [{' '.join(unready)}]" if unready else pod.state)
    return f"[Pod {pod.namespace}/{pod.name}]: {reason}"
