"""A Deployment with its ReplicaSets: how far it is, which template each has, and the change to another template.

Needs the rights to read Deployments and ReplicaSets, and to patch Deployments. Called by rollout.py and the provider.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import errors
from fleet.cluster.client import MANAGER, Cluster
from fleet.cluster.forms import ANY, CONDITIONS, COUNT, LABELS, METADATA, condition, text
from fleet.cluster.managers import joined
from fleet.cluster.pods import HASH
from fleet.validators import Record

# Annotation of a pod template: the digest of all that the stack says about it. Set by fleet.program, read here.
TEMPLATE = "glm-fleet/template"
AGAIN = "glm-fleet/tried-again"  # annotation of a Deployment: when an `up` let Kubernetes try again
TRIES = 10  # of a change that the Deployment's controller was faster than
MOVED = 422  # the status of a JSON patch whose test fails
REVISION = "deployment.kubernetes.io/revision"
SPEC = Record(
    {"template": Record({}, {"metadata": ANY, "spec": ANY}, open=True)},
    {"replicas": COUNT, "selector": Record({}, {"matchLabels": LABELS}, open=True)},
    open=True,
)
COUNTS = dict.fromkeys(
    ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), COUNT
)
DEPLOYMENT = Record(
    {"metadata": METADATA, "spec": SPEC},
    {"status": Record({}, {**COUNTS, "conditions": CONDITIONS}, open=True)},
    open=True,
)
REPLICA_SET = Record(
    {"metadata": METADATA, "spec": SPEC},
    {"status": Record({}, {**COUNTS, "conditions": CONDITIONS}, open=True)},
    open=True,
)


@dataclass(frozen=True)
class ReplicaSet:
    """The pods of one template of a Deployment. `template` is the whole template without the label of the ReplicaSet."""

    name: str
    hash: str
    digest: str  # the annotation TEMPLATE
    revision: int
    replicas: int
    template: Mapping[str, Any]
    failure: str = ""  # why it cannot make pods


@dataclass(frozen=True)
class Deployment:
    """A Deployment: what it wants, how far its controller is, and its ReplicaSets, the newest revision first."""

    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str]  # of its pods
    digest: str
    template: Mapping[str, Any]
    replicas: int
    observed: bool  # whether its controller knows the present template
    updated: int
    available: int
    total: int
    sets: Sequence[ReplicaSet]
    failure: str = ""  # why it makes no progress: a ReplicaSet that cannot make pods
    overdue: bool = False

    @property
    def current(self) -> ReplicaSet | None:
        """The ReplicaSet of the present template, None before its controller has made it."""
        return next((each for each in self.sets if _same(each.template, self.template)), None)

    @property
    def serves(self) -> bool:
        """Whether all pods have the present template and are available, and no other is left."""
        return self.observed and self.updated == self.available == self.total == self.replicas

    def with_digest(self, digest: str) -> ReplicaSet | None:
        """Return the newest ReplicaSet whose template has this digest."""
        return next((each for each in self.sets if each.digest == digest), None)


def read(cluster: Cluster, namespace: str, name: str) -> Deployment | None:
    """Return a Deployment with its ReplicaSets; None where it does not exist. Raises FleetError."""
    item = cluster.find(f"read Deployment {name}", path(namespace, name), DEPLOYMENT)
    if item is None:
        return None
    labels = (item["spec"].get("selector") or {}).get("matchLabels") or {}
    query = {"labelSelector": ",".join(f"{label}={value}" for label, value in labels.items())}
    where = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
    items = list(cluster.list(f"list the ReplicaSets of {name}", where, REPLICA_SET, **query))
    return deployment(item, items)


def deployment(item: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Deployment:
    """Return a Deployment from its object and the ReplicaSets among `items` that are its own."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    own = [
        each
        for each in items
        if any(owner["uid"] == metadata["uid"] for owner in each["metadata"].get("ownerReferences") or ())
    ]
    progressing = condition(status, "Progressing")
    return Deployment(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata["uid"],
        labels=(spec.get("selector") or {}).get("matchLabels") or {},
        digest=digest(spec["template"]),
        template=spec["template"],
        replicas=spec.get("replicas", 1),
        observed=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        total=status.get("replicas", 0),
        sets=sorted(map(_replica_set, own), key=lambda each: -each.revision),
        failure=_failure(status),
        overdue=progressing.get("reason") == "ProgressDeadlineExceeded",
    )


def put_template(cluster: Cluster, namespace: str, name: str, template: Mapping[str, Any]) -> None:
    """Give a Deployment another pod template, and leave its fields to the one who has applied them before. Raises FleetError.

    Fields that stayed with us would be in the way of the next change: a conflict if it has other values, a leftover if it lacks them.
    """
    doing, where = f"change the pods of Deployment {name}", path(namespace, name)
    query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
    # The whole template: a merge would leave what the new one lacks.
    patch = [{"op": "replace", "path": "/spec/template", "value": dict(template)}]
    changed = cluster.send(doing, "PATCH", where, patch, DEPLOYMENT, "json-patch+json", **query)
    for left in reversed(range(TRIES)):
        entries = changed["metadata"].get("managedFields")
        ours = joined(entries, MANAGER) if isinstance(entries, list) else None
        if ours is None:
            return
        version = changed["metadata"].get("resourceVersion")
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/metadata/managedFields", "value": ours},
        ]
        try:
            cluster.send(doing, "PATCH", where, patch, DEPLOYMENT, "json-patch+json", fieldManager=MANAGER)
            return
        except errors.ClusterRefused as error:
            if error.code != MOVED or not left:
                raise
        changed = cluster.get(doing, where, DEPLOYMENT)  # its controller was faster


def try_again(cluster: Cluster, namespace: str, name: str) -> None:
    """Let Kubernetes make a Deployment's pods now. Raises FleetError.

    After refusals its controller waits up to a quarter of an hour, also where a quota or a webhook has been mended meanwhile. Each annotation of
    a Deployment goes to its ReplicaSet, and a change of that is worked on at once.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = {"metadata": {"annotations": {AGAIN: now}}}
    doing = f"try again to make the pods of Deployment {name}"
    cluster.send(doing, "PATCH", path(namespace, name), body, ANY, "merge-patch+json", fieldManager=MANAGER)


def path(namespace: str, name: str) -> str:
    """Return the path of a Deployment."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def digest(template: Mapping[str, Any]) -> str:
    """Return the digest that the program gave a template; "" for one of somebody else."""
    annotations = (template.get("metadata") or {}).get("annotations")
    value = annotations.get(TEMPLATE) if isinstance(annotations, Mapping) else None
    return value if isinstance(value, str) else ""


def _replica_set(item: Mapping[str, Any]) -> ReplicaSet:
    metadata, template = item["metadata"], item["spec"]["template"]
    revision = (metadata.get("annotations") or {}).get(REVISION, "")
    return ReplicaSet(
        name=metadata["name"],
        hash=(metadata.get("labels") or {}).get(HASH, ""),
        digest=digest(template),
        revision=int(revision) if revision.isdecimal() and len(revision) < 12 else 0,
        replicas=item["spec"].get("replicas", 0),
        template=_without_hash(template),
        failure=_failure(item.get("status") or {}),
    )


def _failure(status: Mapping[str, Any]) -> str:
    found = condition(status, "ReplicaFailure")
    return text(found, "message", 1000) if found.get("status") == "True" else ""


def _without_hash(template: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return _bare(first) == _bare(second)


def _bare(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a template without the empty creation time that some API servers send."""
    metadata = {name: value for name, value in (template.get("metadata") or {}).items() if value is not None}
    return {**template, "metadata": metadata}
