"""What the API server says of an object before it is made: server dry runs of objects, and of the pods that they make.

Needs the rights to read and to patch the objects, for their pods also that to create pods. Called by fleet.preflight.cluster_admission.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.cluster import managers
from fleet.cluster.client import MANAGER, Cluster
from fleet.cluster.forms import ANY
from fleet.validators import Each, Record

LIVE = Record({"metadata": Record({}, {"managedFields": Each(ANY, most=1000)}, open=True)}, open=True)
STRICT = {"fieldValidation": "Strict"}
Manifest = Mapping[str, Any]


def of_object(cluster: Cluster, what: str, path: str, manifest: Manifest) -> Sequence[str]:
    """Return the server's warnings about an object. Raises ClusterRefused with the reason for which it does not take it.

    The server judges what would be there afterwards. So the object is applied as by the manager that has applied it before: as another
    one's, the fields that it no longer has would stay, and the server would judge a mixture of both.
    """
    live = cluster.find(f"read {what}", path, LIVE)
    manager = managers.applier((live or {}).get("metadata", {}).get("managedFields") or ())
    query = {**STRICT, "fieldManager": manager or MANAGER, "force": "true"}
    return cluster.judge(f"judge {what}", "PATCH", path, manifest, "apply-patch+yaml", **query)


def of_pod(cluster: Cluster, what: str, workload: Manifest) -> Sequence[str]:
    """Return the server's warnings about a pod of a Deployment or a Job. Raises ClusterRefused with the reason for which it takes none."""
    metadata, template = workload["metadata"], workload["spec"]["template"]
    place = {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], **place}, "spec": template["spec"]}
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods"
    return cluster.judge(f"judge a pod of {what}", "POST", path, pod, **STRICT, fieldManager=MANAGER)
