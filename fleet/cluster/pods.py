"""Pods, as the API server has them: where they are, what they hold, and what their containers report.

Needs the right to list pods. Called by gpus.py, rollout.py, the provider and the verbs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.cluster.client import Cluster
from fleet.cluster.forms import CONDITIONS, COUNT, METADATA, NAME, RESOURCES, TIME, WORD, WORDS, condition, holds, text
from fleet.cluster.nodes import GPU, whole
from fleet.validators import Each, Flag, Record

HASH = "pod-template-hash"  # the label by which a ReplicaSet knows its pods
ENDED = ("Succeeded", "Failed")
LINES, LOG = 8, 1 << 14  # of a container's log in a message
RESERVED = Record({}, {"requests": RESOURCES, "limits": RESOURCES}, open=True)
CONTAINERS = Each(Record({"name": NAME}, {"image": WORDS, "resources": RESERVED}, open=True), most=200)
TERMINATED = Record({}, {"exitCode": COUNT, "reason": WORDS, "message": WORDS}, open=True)
STATE = Record(
    {}, {"waiting": Record({}, {"reason": WORDS, "message": WORDS}, open=True), "terminated": TERMINATED}, open=True
)
STATUSES = Each(
    Record(
        {"name": NAME},
        {"ready": Flag(), "restartCount": COUNT, "imageID": WORDS, "state": STATE, "lastState": STATE},
        open=True,
    ),
    most=200,
)
POD = Record(
    {
        "metadata": METADATA,
        "spec": Record({"containers": CONTAINERS}, {"nodeName": NAME, "initContainers": CONTAINERS}, open=True),
    },
    {
        "status": Record(
            {},
            {
                "phase": WORD,
                "reason": WORDS,
                "message": WORDS,
                "startTime": TIME,
                "conditions": CONDITIONS,
                "containerStatuses": STATUSES,
                "initContainerStatuses": STATUSES,
            },
            open=True,
        )
    },
    open=True,
)


@dataclass(frozen=True)
class Container:
    """What one container of a pod reports: why it waits, how it ended the last time, how often it was started again."""

    name: str
    ready: bool = False
    restarts: int = 0
    waiting: str = ""  # one word
    message: str = ""
    exit_code: int | None = None
    end: str = ""  # why it ended, in one word
    image_id: str = ""  # of the image that runs, with its digest where that was pulled


@dataclass(frozen=True)
class Pod:
    """One pod. `unplaced` is the scheduler's reason for which it is on no node."""

    name: str
    namespace: str
    uid: str
    node: str
    template_hash: str
    owner: str
    gpus: int
    phase: str
    deleting: bool
    ready: bool
    created: str
    image: str
    containers: tuple[Container, ...] = ()
    unplaced: str = ""
    problem: str = ""  # why it failed as a whole

    @property
    def holds_gpus(self) -> bool:
        """Whether its GPUs are not free for others: it is on a node and has not ended."""
        return bool(self.gpus and self.node) and self.phase not in ENDED

    @property
    def state(self) -> str:
        """What it does, in a few words."""
        if self.deleting:
            return "ends"
        if self.ready:
            return "ready"
        if self.unplaced:
            return "waits for a node"
        waiting = next((each.waiting for each in self.containers if each.waiting), "")
        return {"": "starts", "ContainerCreating": "starts", "PodInitializing": "starts"}.get(waiting, waiting)


def of_namespace(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
    """Return the pods of a namespace with these labels, by name. Raises FleetError."""
    selector = ",".join(f"{label}={value}" for label, value in labels.items())
    return _read(cluster, f"/api/v1/namespaces/{namespace}/pods", **({"labelSelector": selector} if selector else {}))


def on_node(cluster: Cluster, namespace: str, label: str, node: str) -> list[Pod]:
    """Return the pods of a namespace with this label, whatever its value, that are on a node. Raises FleetError."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return _read(cluster, path, labelSelector=label, fieldSelector=f"spec.nodeName={node}")


def everywhere(cluster: Cluster) -> list[Pod]:
    """Return all pods of the cluster that have not ended. Raises FleetError."""
    return _read(cluster, "/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")


def last_lines(cluster: Cluster, pod: Pod, container: str, previous: bool) -> list[str]:
    """Return the last lines of a container's log, `previous` of its run before; [] where there is none. Raises FleetError."""
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/log"
    query = {"container": container, "tailLines": str(LINES), "limitBytes": str(LOG), "previous": str(previous).lower()}
    lines = cluster.text(f"read the log of pod {pod.name}", path, LOG, **query).splitlines()
    return [line if len(line) <= 200 else f"{line[:199]}…" for line in lines if line.strip()][-LINES:]


def _read(cluster: Cluster, path: str, **query: str) -> list[Pod]:
    return sorted(map(pod, cluster.list("list the pods", path, POD, **query)), key=lambda each: each.name)


def pod(item: Mapping[str, Any]) -> Pod:
    """Return a pod from its object, whose form is right."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    scheduled = condition(status, "PodScheduled")
    owners = [each["name"] for each in metadata.get("ownerReferences") or () if each.get("controller")]
    return Pod(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        template_hash=(metadata.get("labels") or {}).get(HASH, ""),
        owner=owners[0] if owners else "",
        gpus=sum(_gpus(container) for container in spec["containers"]),
        phase=status.get("phase", ""),
        deleting="deletionTimestamp" in metadata,
        ready=holds(status, "Ready"),
        created=metadata.get("creationTimestamp", ""),
        image=text(spec["containers"][0], "image") if spec["containers"] else "",
        containers=tuple(map(_container, statuses)),
        unplaced=text(scheduled, "message") if scheduled.get("status") == "False" else "",
        problem=": ".join(filter(None, (text(status, "reason"), text(status, "message")))),
    )


def _container(status: Mapping[str, Any]) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=status["name"],
        ready=bool(status.get("ready")),
        restarts=status.get("restartCount", 0),
        waiting=text(waiting, "reason"),
        message=text(waiting, "message") or text(ended, "message"),
        exit_code=ended.get("exitCode"),
        end=text(ended, "reason"),
        image_id=text(status, "imageID", 400),
    )


def _gpus(container: Mapping[str, Any]) -> int:
    """Return the GPUs of a container: of a device, the request is the limit."""
    resources = container.get("resources") or {}
    return whole((resources.get("limits") or {}).get(GPU) or (resources.get("requests") or {}).get(GPU))
