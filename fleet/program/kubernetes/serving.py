"""A model's pods: the Deployment, its key and configuration, its Service and its disruption budget.

The pods are what Pod Security `restricted` admits: no root, no right, a read-only root, a seccomp filter. The configuration of vLLM is
in an annotation of the pods' template, and the Secret of the key has a digest in its name: a template names all that its pods need, so going
back to an earlier one needs nothing else.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.program.kubernetes import namespace, pod_files, weights
from fleet.program.kubernetes.namespace import PORT
from fleet.program.kubernetes.objects import (
    GPU,
    MODEL,
    OURS,
    SKIP_AWAIT,
    TEMPLATE,
    Object,
    Stack,
    digest,
    literal,
    made,
    quantity,
    secret_digest,
    selector,
    tolerations,
)

CONFIG = "glm-fleet/config.yaml"  # annotation
CONFIG_FILE = "/etc/vllm/config.yaml"
KEY_FILE = "/run/fleet/key.env"
CACHE = "/var/cache/vllm"
PREPARE = "/etc/vllm-prepare.py"  # where start.sh of the role vllm looks for it
LEAVE = 8  # seconds in which the cluster's nodes stop sending requests to a pod, before it stops
PERIOD = 10  # seconds between two startup probes
ANSWERS = 900  # seconds for the answers to one startup probe: the first picture compiles kernels
SLACK = 600  # seconds for scheduling, and the pull of the image
UNITS = {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def key_secret(stack: Stack, api_key: str, content: Any) -> Object:
    """Return the Secret of the API key. `content` is the key itself, or Pulumi's secret of it."""
    space = stack.cluster.namespace
    name = f"vllm-key-{secret_digest(api_key, stack.owner)}"
    return Object(
        made("v1", "Secret", name, space, immutable=True, type="Opaque", stringData={"key.env": content}),
        (f"Namespace/{space}",),
    )


def objects(stack: Stack, model: str, secret: Object, after: tuple[str, ...]) -> Iterator[Object]:
    """Yield the objects of one model; its pods start after the objects `after`."""
    space, values = stack.cluster.namespace, stack.values(model)
    files = pod_files.serving(stack, values)
    here = (f"Namespace/{space}",)
    yield files.object
    needed = (*here, files.object.key, secret.key, *namespace.policies(stack), *after)
    yield Object(_deployment(stack, model, values, files, secret), needed, startup(values) + SLACK, guard=model)
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]
    service = {"selector": {MODEL: model}, "ports": ports, "type": "ClusterIP"}
    # The plugin would wait for a ready pod, which the rollout does.
    yield Object(made("v1", "Service", model, space, labels={MODEL: model}, annotations=SKIP_AWAIT, spec=service), here)
    budget = {"maxUnavailable": 1, "selector": selector(model), "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    yield Object(made("policy/v1", "PodDisruptionBudget", model, space, labels={MODEL: model}, spec=budget), here)


def startup(values: Mapping[str, Any]) -> int:
    """Return the seconds that a pod may take until it sees: its cache is empty, so it compiles kernels."""
    return int(values["vllm_cold_start_timeout"])


def _deployment(
    stack: Stack, model: str, values: Mapping[str, Any], files: pod_files.Files, secret: Object
) -> dict[str, Any]:
    form = stack.cluster.models[model]
    labels = {**OURS, MODEL: model, "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": model}
    role = stack.role("vllm", {**values, "vllm_model_dir": weights.folder(stack, values)})
    notes = {CONFIG: role.text("config.yaml.j2")}
    template = {
        "metadata": {"labels": labels, "annotations": notes},
        "spec": _pod(stack, model, values, files, secret, _environment(role.text("environment.j2"), form.requests.cpu)),
    }
    notes[TEMPLATE] = digest(template)
    spec = {
        "replicas": form.replicas,
        "selector": selector(model),
        # Without free GPUs a surge would wait for ever: then one pod at a time makes room for its successor.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": form.surge, "maxUnavailable": 0 if form.surge else 1},
        },
        "minReadySeconds": 5,
        "progressDeadlineSeconds": startup(values) + SLACK,
        "template": template,
    }
    return made("apps/v1", "Deployment", model, stack.cluster.namespace, labels, SKIP_AWAIT, spec=spec)


def _environment(text: str, cpu: str) -> list[dict[str, str]]:
    """Return the environment that the role renders; compilers get as many jobs as the pod has processors for sure."""
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith("#")]
    rendered = {name: value for name, _, value in lines}
    own = {"MAX_JOBS": str(max(1, math.floor(_number(cpu)))), **rendered}
    return [{"name": name, "value": literal(value)} for name, value in sorted(own.items())]


def _pod(
    stack: Stack,
    model: str,
    values: Mapping[str, Any],
    files: pod_files.Files,
    secret: Object,
    environment: list[dict[str, str]],
) -> dict[str, Any]:
    cluster, space = stack.cluster, {"name": "files", "mountPath": pod_files.PLACE, "readOnly": True}
    labels = [{"key": key, "operator": "In", "values": list(values)} for key, values in cluster.node_labels.items()]
    terms = {"nodeSelectorTerms": [{"matchExpressions": labels}]}
    user, group = int(values["vllm_user"]), int(values["vllm_group"])
    projected = [{"path": "config.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{CONFIG}']"}}]
    name = secret.manifest["metadata"]["name"]
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": LEAVE + int(values["vllm_stop_timeout"]),
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "tolerations": tolerations(stack),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector(model),
            }
        ],
        "imagePullSecrets": [{"name": name} for name in cluster.pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "supplementalGroups": [cluster.render_group],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_weights_check(stack, values, space)] if cluster.filled else [],
        "containers": [_server(stack, model, values, environment, space)],
        "volumes": [
            weights.volume(stack),
            files.volume,
            {"name": "config", "downwardAPI": {"items": projected}},
            {"name": "key", "secret": {"secretName": name, "defaultMode": 0o440}},
            {"name": "cache", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(str(values["vllm_shm_size"]))}},
        ],
    }
    return pod | ({"priorityClassName": cluster.priority_class} if cluster.priority_class else {})


CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _weights_check(stack: Stack, values: Mapping[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """Return the container that ends well when the volume has the verified weights: a new node may not have them yet."""
    words = weights.arguments(stack, values)["model"]
    return {
        "name": "weights",
        "image": stack.cluster.image,
        "command": ["python3", "-B", f"{pod_files.PLACE}/weights_ready.py", *map(literal, words)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": CONFINED,
        "volumeMounts": [weights.mount(stack), files],
    }


def _server(
    stack: Stack, model: str, values: Mapping[str, Any], environment: list[dict[str, str]], files: dict[str, Any]
) -> dict[str, Any]:
    """Return the container of the vLLM server, which starts as in the role: start.sh reads the key from its input."""
    form, gpus = stack.cluster.models[model], {GPU: str(stack.gpus(model))}
    limit = {"memory": quantity(str(values["vllm_memory"]))} if values["vllm_memory"] else {}
    words = [*values["vllm_entrypoint"], "--config", CONFIG_FILE, "--host", "0.0.0.0", "--port", str(PORT)]
    start = f'exec /bin/sh {pod_files.PLACE}/start.sh "$@" <{KEY_FILE}'
    url = f"http://127.0.0.1:{PORT}"
    asked = [url, KEY_FILE, str(values["vllm_served_model_name"]), str(stack.settings.probes.min_iou)]
    command = ["python3", "-B", f"{pod_files.PLACE}/startup_probe.py", *asked, *pod_files.cases(stack)]
    return {
        "name": "vllm",
        "image": stack.cluster.image,
        "command": ["/bin/sh", "-c", start, "start"],
        "args": [literal(str(word)) for word in words],
        "env": environment,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {
                **gpus,
                "cpu": form.requests.cpu,
                "memory": _smaller(form.requests.memory, limit.get("memory")),
            },
            "limits": {**gpus, **limit},
        },
        "securityContext": CONFINED,
        # Ready means that it sees. Until then nothing else is asked, and a change of the Deployment goes no further.
        "startupProbe": {
            "exec": {"command": command},
            "periodSeconds": PERIOD,
            "timeoutSeconds": ANSWERS,
            "failureThreshold": math.ceil(startup(values) / PERIOD),
        },
        "readinessProbe": _healthy(5, 5, 3),
        "livenessProbe": _healthy(10, 10, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE}}},
        "volumeMounts": [
            weights.mount(stack),
            files,
            {"name": "files", "mountPath": PREPARE, "subPath": "prepare.py", "readOnly": True},
            {"name": "config", "mountPath": "/etc/vllm", "readOnly": True},
            {"name": "key", "mountPath": "/run/fleet", "readOnly": True},
            {"name": "cache", "mountPath": CACHE},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _healthy(period: int, timeout: int, failures: int) -> dict[str, Any]:
    asked = {"path": "/health", "port": "http"}
    return {"httpGet": asked, "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures}


def _smaller(request: str, limit: str | None) -> str:
    """Return the request, or the limit where that is smaller: Kubernetes refuses a request beyond it."""
    return limit if limit and _number(limit) < _number(request) else request


def _number(text: str) -> float:
    digits = text.rstrip("mKiMGT")
    return int(digits) * UNITS[text[len(digits) :]]
