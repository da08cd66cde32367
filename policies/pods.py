"""Reads the pods that objects on a Kubernetes cluster make: of any kind that Pulumi can declare, not only those that this project does.

Values that are not known yet count as not there: `up` calls the rules again. Used by rules/.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from policies.context import Context, on, value_at

# kind → where its pods' template is
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "Job", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"), ("spec", "template")
    ),
}
PODS = tuple(TEMPLATES)
OBJECTS = (*PODS, "Namespace", "PersistentVolumeClaim")
# What the Jobs of the weights may, in a namespace without replicas: take over another user's files as root.
FILL = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER"})
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def spec(context: Context) -> Mapping[str, Any]:
    """Return the specification of the object's pods."""
    found = value_at(context.inputs, *TEMPLATES[context.kind], "spec", absent={})
    return found if isinstance(found, Mapping) else {}


def containers(context: Context) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (name, container) of each container of the pods."""
    for kind in CONTAINERS:
        for container in _list(spec(context), kind):
            yield str(value_at(container, "name", absent="a container")), container


def volumes(context: Context) -> Iterator[Mapping[str, Any]]:
    """Yield the volumes of the pods."""
    yield from _list(spec(context), "volumes")


def words(context: Context, flag: str) -> list[str]:
    """Return the values of a flag in the commands of all containers: of the words FLAG=VALUE."""
    lists = [value_at(container, part) for _, container in containers(context) for part in ("command", "args")]
    found = [word for words in lists if isinstance(words, list) for word in words if isinstance(word, str)]
    return list(dict.fromkeys(word.partition("=")[2] for word in found if word.startswith(f"{flag}=")))


def fills(context: Context) -> bool:
    """Whether it is a Job in a namespace for the weights, which holds no replica."""
    return context.kind == "Job" and str(value_at(context.inputs, "metadata", "namespace", absent="")).endswith(
        "-weights"
    )


def security(context: Context, container: Mapping[str, Any], name: str) -> Any:
    """Return a setting of a container's securityContext, which the pod's may give for all."""
    own = value_at(container, "securityContext", name)
    return value_at(spec(context), "securityContext", name) if own is None else own


def added(container: Mapping[str, Any]) -> set[str]:
    """Return the capabilities that a container adds."""
    return set(map(str, _list(value_at(container, "securityContext", "capabilities", absent={}), "add")))


def privileges(context: Context) -> Iterator[str]:
    """Yield what gives a container a right over its node."""
    pod = spec(context)
    if on(value_at(pod, "hostPID")):
        yield "hostPID is on"
    for volume in volumes(context):
        if (path := value_at(volume, "hostPath", "path")) is not None:
            yield f"the pod mounts {path} of its node"
    for name, container in containers(context):
        if on(value_at(container, "securityContext", "privileged")):
            yield f"{name} is privileged"
        if on(value_at(container, "securityContext", "allowPrivilegeEscalation", absent=True)):
            yield f"{name} has no allowPrivilegeEscalation: false"
        if more := sorted(added(container) - {"SYS_PTRACE"} - (FILL if fills(context) else set())):
            yield f"{name} adds {', '.join(more)}"
        if "ALL" not in _list(value_at(container, "securityContext", "capabilities", absent={}), "drop"):
            yield f"{name} keeps capabilities"
        user, never = security(context, container, "runAsUser"), security(context, container, "runAsNonRoot")
        if not fills(context) and (user == 0 or not on(never)):
            yield f"{name} may run as root"


def host_network(context: Context) -> Iterator[str]:
    """Yield the network of the node, and ports of it."""
    if on(value_at(spec(context), "hostNetwork")):
        yield "hostNetwork is on"
    for name, container in containers(context):
        for port in _list(container, "ports"):
            if (number := value_at(port, "hostPort")) is not None:
                yield f"{name} has hostPort {number}"


def host_ipc(context: Context) -> Iterator[str]:
    """Yield the shared memory of the node."""
    if on(value_at(spec(context), "hostIPC")):
        yield "hostIPC is on"


def tracing(context: Context) -> Iterator[str]:
    """Yield what lets one process trace another."""
    for name, container in containers(context):
        if "SYS_PTRACE" in added(container):
            yield f"{name} adds SYS_PTRACE"
    if on(value_at(spec(context), "shareProcessNamespace")):
        yield "shareProcessNamespace is on"


def no_seccomp(context: Context) -> Iterator[str]:
    """Yield each container without a filter of system calls."""
    for name, container in containers(context):
        profile = value_at(security(context, container, "seccompProfile") or {}, "type", absent="none")
        if profile not in ("RuntimeDefault", "Localhost", None):
            yield f"the seccomp profile of {name} is {profile}"


def images(context: Context) -> Iterator[tuple[str, Any]]:
    """Yield (of what, reference) for each image of the pods, also those that are volumes."""
    for name, container in containers(context):
        yield name, value_at(container, "image", absent="")
    for volume in volumes(context):
        if value_at(volume, "image") is not None:
            yield str(value_at(volume, "name", absent="a volume")), value_at(volume, "image", "reference", absent="")


def _list(of: Any, name: str) -> list[Any]:
    found = value_at(of, name) if isinstance(of, Mapping) else None
    return found if isinstance(found, list) else []
