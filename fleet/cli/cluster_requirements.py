"""What a stack on a cluster wants of it, as data for fleet.preflight.cluster: GPUs, rights, kinds, classes. Opens no connection.

Called by preflight.py.
"""

from fleet.preflight.cluster import Wanted
from fleet.preflight.cluster_admission import StackObject
from fleet.program import kubernetes
from fleet.program.kubernetes import rights
from fleet.stack import role_vars, settings, stack_file
from fleet.stack.kubernetes_form import ClaimWeights, ImageWeights

OPTIONAL = ("HTTPRoute", "PodMonitor")  # kinds that a cluster may lack


def of_stack(stack: str, loaded: settings.Settings, roles: role_vars.Roles) -> Wanted:
    """Return what the stack wants of its cluster."""
    cluster = loaded.kubernetes
    assert cluster
    made = kubernetes.Stack(loaded, cluster, roles, f"organization/{stack_file.PROJECT}/{stack}")
    gpus = {model: made.gpus(model) for model in cluster.models}
    objects = list(kubernetes.objects(made, "", ("any",)))  # of the Jobs one stands for those of all nodes
    manifests = [item.manifest for item in objects]
    wide, *spaces = rights.roles(made, "any")
    others = {}
    if isinstance(cluster.weights, ClaimWeights):
        name = cluster.weights.storage_class
        others[f"/apis/storage.k8s.io/v1/storageclasses/{name}"] = f"StorageClass {name}"
    if cluster.priority_class:
        name = cluster.priority_class
        others[f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}"] = f"PriorityClass {name}"
    return Wanted(
        owner=made.owner,
        namespace=cluster.namespace,
        namespaces=list(dict.fromkeys([cluster.namespace, cluster.jobs_namespace])),
        fetches=cluster.jobs_namespace,
        selector=cluster.node_labels,
        gpus=sum(form.replicas * gpus[model] for model, form in cluster.models.items()),
        most=max(gpus.values()),
        rights={each["metadata"]["namespace"]: [*wide["rules"], *each["rules"]] for each in spaces},
        kinds={each["kind"]: each["apiVersion"] for each in manifests if each["kind"] in OPTIONAL},
        others=others,
        objects=[StackObject(f"{item.manifest['kind']} {item.name}", item.path, item.manifest) for item in objects],
        image_volume=isinstance(cluster.weights, ImageWeights),
    )
