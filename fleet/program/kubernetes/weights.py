"""The weights' volumes and claims, and the Jobs that fill and verify them before a replica starts. Three homes (kubernetes_form)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.program.kubernetes import namespace, pod_files
from fleet.program.kubernetes.namespace import JOB
from fleet.program.kubernetes.objects import OURS, Object, Stack, digest, label, made, tolerations
from fleet.stack.cluster_names import NAMESPACE
from fleet.stack.kubernetes_form import ClaimWeights, ImageWeights, NodeWeights

ARTIFACT = "/srv/model"  # where an OCI artifact is mounted
NODE = "glm-fleet/node"
TOKEN = "weights-token"
NOMINAL = "1Ti"  # a hostPath has no size
ROOT_MAY = ["CHOWN", "DAC_OVERRIDE", "FOWNER"]  # what taking over another user's files needs
LATEST = 2  # times that a Job tries again
# Pulumi's plugin would wait for the end of a Job that has failed, at each `up` again: so it makes a new one.
RETRY = {"pulumi.com/replaceUnready": "true"}


def folder(stack: Stack, values: Mapping[str, Any]) -> str:
    """Return the model's folder in a serving pod."""
    home = stack.cluster.weights
    if isinstance(home, ImageWeights):
        return f"{ARTIFACT}/{home.folder.strip('/')}".rstrip("/")
    return str(stack.role("weights", values).value("_weights_path"))


def volume(stack: Stack) -> dict[str, Any]:
    """Return the volume `weights` of a serving pod."""
    home = stack.cluster.weights
    if isinstance(home, ImageWeights):
        return {"name": "weights", "image": {"reference": home.image, "pullPolicy": "IfNotPresent"}}
    return {"name": "weights", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}


def mount(stack: Stack, read_only: bool = True) -> dict[str, Any]:
    """Return where a pod mounts it: at the folder that the role has on a machine."""
    path = stack.roles.defaults["weights_dir"] if stack.cluster.filled else ARTIFACT
    return {"name": "weights", "mountPath": path, **({"readOnly": True} if read_only else {})}


def volumes(stack: Stack) -> Iterator[Object]:
    """Yield the volumes and claims: of the replicas, which only read, and of the Jobs."""
    cluster, home = stack.cluster, stack.cluster.weights
    if isinstance(home, NodeWeights):
        # Without node affinity each node with the folder will do: one claim for all pods. `restricted` refuses a hostPath in a pod itself.
        yield from _folder(home.path, "Directory", "ReadOnlyMany", cluster.namespace)
        yield from _folder(home.path, "DirectoryOrCreate", "ReadWriteMany", cluster.jobs_namespace)
    if isinstance(home, ClaimWeights):
        spec = {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": home.storage_class,
            "resources": {"requests": {"storage": home.size}},
        }
        # A class may wait for the first pod before it makes the volume.
        annotations = {"pulumi.com/skipAwait": "true"}
        manifest = made("v1", "PersistentVolumeClaim", "weights", cluster.namespace, annotations=annotations, spec=spec)
        yield Object(manifest, (f"Namespace/{cluster.namespace}",), guard=NAMESPACE)


def _folder(path: str, kind: str, mode: str, space: str) -> Iterator[Object]:
    """Yield the volume of a folder of the nodes, and the only claim that may have it."""
    name, capacity = f"{space}-weights-files", {"storage": NOMINAL}
    spec = {
        "accessModes": [mode],
        "capacity": capacity,
        "claimRef": {"namespace": space, "name": "weights"},
        "hostPath": {"path": path, "type": kind},
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": name,
    }
    persistent = Object(made("v1", "PersistentVolume", name, spec=spec), guard=NAMESPACE)
    claim = {"accessModes": [mode], "resources": {"requests": capacity}, "storageClassName": name, "volumeName": name}
    yield persistent
    after = (persistent.key, f"Namespace/{space}")
    yield Object(made("v1", "PersistentVolumeClaim", "weights", space, spec=claim), after, guard=NAMESPACE)


def jobs(stack: Stack, nodes: Sequence[str], token: bool) -> Iterator[Object]:
    """Yield what fills the volumes: for each distinct revision of the models one Job, or one for each of the nodes."""
    if not stack.cluster.filled:
        return
    for values in _distinct(stack):
        files = _files(stack, values)
        yield files.object
        for node in nodes if isinstance(stack.cluster.weights, NodeWeights) else ("",):
            yield _job(stack, values, files, node, token)


def _distinct(stack: Stack) -> list[dict[str, Any]]:
    """Return the variables of the role weights, each different set once."""
    sets = []
    for model in stack.cluster.models:
        values = {name: value for name, value in stack.values(model).items() if name.startswith("weights_")}
        if values not in sets:
            sets.append(values)
    return sets


def arguments(stack: Stack, values: Mapping[str, Any], token: str = "") -> dict[str, list[str]]:
    """Return the arguments of the fetcher, as the role passes them: of the `model`, and of the `hub`."""
    own = {"_weights_manifest_file": f"{pod_files.PLACE}/wanted.json", "_weights_token_file": token}
    if isinstance(stack.cluster.weights, ClaimWeights):  # one user does everything
        own["weights_owner"] = values["weights_fetcher"]
    role = stack.role("weights", {**values, **own})
    return {"model": role.value("_weights_arguments"), "hub": role.value("_weights_hub_arguments")}


def _files(stack: Stack, values: Mapping[str, Any]) -> pod_files.Files:
    """Return the files of the Jobs: the fetcher, the sums that the stack wants, the authority of the hub."""
    home = stack.cluster.weights
    job = {"weights_job.py": (pod_files.HERE / "weights_job.py").read_text()}
    texts = {**pod_files.fetcher(), **pod_files.wanted(values), **job}
    if not isinstance(home, ImageWeights) and home.ca:
        texts["ca.pem"] = Path(home.ca).read_text()
    return pod_files.Files("weights", stack.cluster.jobs_namespace, texts)


def _job(stack: Stack, values: Mapping[str, Any], files: pod_files.Files, node: str, token: bool) -> Object:
    cluster, seconds = stack.cluster, int(values["weights_timeout"])
    words = arguments(stack, values, "/run/fleet/token" if token else "")
    fetcher = {"runAsUser": values["weights_fetcher"], "runAsGroup": values["weights_group"], "runAsNonRoot": True}
    root = {"runAsUser": 0, "runAsGroup": 0}

    def step(name: str, user: Mapping[str, Any], capabilities: Sequence[str] = ()) -> dict[str, Any]:
        """Return the container of one step."""
        command = ["python3", "-B", f"{pod_files.PLACE}/weights_job.py", name, *words["model"]]
        hub = name in ("fetch", "all")
        mounts = [
            mount(stack, read_only=False),
            {"name": "files", "mountPath": pod_files.PLACE, "readOnly": True},
        ]
        mounts += [{"name": "token", "mountPath": "/run/fleet", "readOnly": True}] if token and hub else []
        trusted = [{"name": "SSL_CERT_FILE", "value": f"{pod_files.PLACE}/ca.pem"}] if "ca.pem" in files.texts else []
        return {
            "name": name,
            "image": cluster.image,
            "terminationMessagePolicy": "FallbackToLogsOnError",  # the last lines, for who looks at the pod
            "command": [*command, *(words["hub"] if hub else [])],
            "env": trusted if hub else [],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"} if hub else {"cpu": "100m", "memory": "128Mi"}},
            "securityContext": {
                **user,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"], **({"add": list(capabilities)} if capabilities else {})},
            },
            "volumeMounts": mounts,
        }

    if node:  # the folder is root's, so that no program of a replica can change the model
        steps = [step("prepare", root, ROOT_MAY), step("fetch", fetcher), step("finish", root, ROOT_MAY)]
    else:
        steps = [step("all", fetcher)]
    secret = {"secretName": TOKEN, "defaultMode": 0o444}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}
        | (
            {}
            if node
            else {"runAsNonRoot": True, "fsGroup": values["weights_group"], "fsGroupChangePolicy": "OnRootMismatch"}
        ),
        "tolerations": tolerations(stack),
        "imagePullSecrets": [{"name": name} for name in cluster.pull_secrets],
        "initContainers": steps[:-1],
        "containers": steps[-1:],
        "volumes": [
            {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
            files.volume,
            *([{"name": "token", "secret": secret}] if token else []),
        ],
    }
    if node:
        named = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": named}}
        }
    name = f"weights-{digest([spec, node])}"
    template = {"metadata": {"labels": {**OURS, JOB: "weights"}}, "spec": spec}
    manifest = made(
        "batch/v1",
        "Job",
        name,
        cluster.jobs_namespace,
        labels={NODE: label(node)} if node else {},
        annotations={**RETRY, **({NODE: node} if node else {})},
        spec={"activeDeadlineSeconds": seconds, "backoffLimit": LATEST, "template": template},
    )
    needed = [files.object.key, f"PersistentVolumeClaim/{cluster.jobs_namespace}/weights", *namespace.policies(stack)]
    return Object(manifest, (*needed, *([f"Secret/{cluster.jobs_namespace}/{TOKEN}"] if token else [])), seconds)
