"""Whose a namespace is: the annotation of a stack, before anything is put there. Needs the right to read the namespace.

Called by fleet.provider and the verbs.
"""

from fleet import errors, printable
from fleet.cluster.client import Cluster
from fleet.cluster.forms import METADATA
from fleet.validators import Record

# Annotation that fleet.program sets: [ORGANIZATION/]PROJECT/STACK.
OWNER = "glm-fleet/owner"
NAMESPACE = Record({"metadata": METADATA}, open=True)


def check_owner(cluster: Cluster, namespace: str, owner: str) -> bool:
    """Return whether the namespace exists. Raises NotReady for one that is not this owner's."""
    item = cluster.find(f"read namespace {namespace}", f"/api/v1/namespaces/{namespace}", NAMESPACE)
    if item is None:
        return False
    now = (item["metadata"].get("annotations") or {}).get(OWNER)
    if now == owner:
        return True
    whose = f"belongs to the stack {printable.short(str(now), 120)}" if now else "exists, and no stack has made it"
    raise errors.NotReady(
        node=cluster.name,
        doing=f"take namespace {namespace}",
        seen=f"it {whose}",
        wanted=f"a namespace of {owner}, or a name that is free",
        next="another `namespace` of glm-fleet:kubernetes in the stack file; nothing in this one was touched",
    )
