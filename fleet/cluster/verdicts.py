"""Why a change of a Deployment does not get on: what its new pods, their events and its controller report, and how long that may last.

Pure. Called by rollout.py.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fleet.cluster.events import GROWING, UNHEALTHY, UNMOUNTED, Event
from fleet.cluster.kubeconfig import Access
from fleet.cluster.pods import Container, Pod
from fleet.cluster.workloads import Deployment

# The startup probe prints this before an answer about a picture that is wrong (fleet/program/kubernetes/pod/startup_probe.py).
SEES_WRONGLY = "sees wrongly: "
WRONG_TIMES = 2  # each time, the probe has asked twice
# Seconds that a trouble may last before it ends the change.
PULL, PLACE, REFUSAL, CONFIGURATION, MOUNT = 90.0, 60.0, 20.0, 30.0, 180.0
BACKOFF = 300.0  # seconds after which a kubelet tries again at the latest
NEVER = ("InvalidImageName", "ErrImageNeverPull")
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", *NEVER)
NOT_MADE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
KILLED = 137


@dataclass(frozen=True)
class Trouble:
    """One reason why a change does not get on, and the seconds that it may last. `shortage`: the pod finds no free GPUs.

    `log` is the container whose last run's log says more. `outlives` are the seconds for which the report may stay when its cause is gone,
    `times` how often it happened, where that is counted.
    """

    kind: str
    patience: float
    seen: str
    wanted: str
    next: str
    pod: Pod | None = None
    shortage: bool = False
    log: str = ""
    outlives: float = 0.0
    times: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it the same trouble at another look; a crash that happens again is another one."""
        return self.kind, self.pod.uid if self.pod else "", self.times


@dataclass
class Patience:
    """Since when each trouble of a change lasts. `again`: an earlier `up` has failed with those of the first look; they may be mended by now."""

    again: bool
    _since: dict[tuple[str, str, int], float] = field(default_factory=dict)
    _older: set[tuple[str, str, int]] | None = None

    def ended(self, current: Sequence[Trouble], now: float) -> Trouble | None:
        """Return a trouble that lasts too long, None without one."""
        keys = {trouble.key for trouble in current}
        if self._older is None:
            self._older = keys if self.again else set()
        self._older &= keys
        self._since = {key: self._since.get(key, now) for key in keys}
        for trouble in current:
            limit = trouble.patience + (trouble.outlives if trouble.key in self._older else 0)
            if now - self._since[trouble.key] >= limit:
                return trouble
        return None


def troubles(deployment: Deployment, all_pods: Sequence[Pod], events: Sequence[Event], access: Access) -> list[Trouble]:
    """Return what holds the newest template's pods up, the surest reasons first."""
    current = deployment.current
    fresh = [pod for pod in all_pods if current and pod.template_hash == current.hash and not pod.deleting]
    ending = any(pod.deleting for pod in all_pods)
    every = [trouble for pod in fresh if not pod.ready for trouble in _of_pod(pod, events, access, ending)]
    failure = current.failure or deployment.failure if current else deployment.failure
    if failure and not ending:
        every.append(_refused(deployment, failure, access))
    if deployment.overdue and deployment.observed:
        every.append(_overdue(deployment, fresh, access))
    return sorted(every, key=lambda each: each.patience)


def _of_pod(pod: Pod, events: Sequence[Event], access: Access, ending: bool) -> Iterator[Trouble]:
    own = [event for event in events if event.pod == pod.uid]
    if pod.unplaced:
        growing = any(event.reason == GROWING for event in own)
        if not ending and not growing:  # a pod that ends gives its GPUs back
            yield _unplaced(pod, access)
        return
    wrong = [event for event in own if event.reason == UNHEALTHY and SEES_WRONGLY in event.message]
    if sum(event.count for event in wrong) >= WRONG_TIMES:
        yield _sees_wrongly(pod, wrong[-1], access)
    for container in pod.containers:
        yield from _of_container(pod, container, access)
    unmounted = [event for event in own if event.reason in UNMOUNTED]
    if unmounted and not any(each.ready or each.restarts for each in pod.containers):
        yield Trouble(
            "mount",
            MOUNT,
            f"{_place(pod)}: a volume is not mounted: {unmounted[-1].message}",
            "its volumes: weights, key and configuration",
            _describe(pod, access),
            pod,
        )


def _of_container(pod: Pod, container: Container, access: Access) -> Iterator[Trouble]:
    why = container.message or container.waiting
    if container.waiting in NOT_PULLED:
        yield Trouble(
            "image",
            0 if container.waiting in NEVER else PULL,
            f"{_place(pod)}: its image cannot be pulled: {pod.image}\n{container.waiting}: {why}",
            "an image that this node can pull",
            f"on {pod.node or 'the node'}: crictl pull {shlex.quote(pod.image)}; a private registry needs `pull_secrets` of glm-fleet:kubernetes",
            pod,
            outlives=0 if container.waiting in NEVER else BACKOFF,
        )
    elif container.waiting in NOT_MADE:
        yield Trouble(
            "container",
            CONFIGURATION,
            f"{_place(pod)}: container {container.name} cannot be made: {container.waiting}: {why}",
            "a container with its Secret, ConfigMap and devices",
            _describe(pod, access),
            pod,
        )
    elif container.exit_code and (container.restarts >= 2 or container.waiting == "CrashLoopBackOff"):
        memory = "; the node has killed it for its memory" if container.end == "OOMKilled" else ""
        killed = (
            ""
            if memory or container.exit_code != KILLED
            else "; it was killed, as a failed liveness or startup probe does"
        )
        times = max(container.restarts, 1)
        yield Trouble(
            "crash",
            0,
            f"{_place(pod)}: container {container.name} ended with exit code {container.exit_code}"
            f"{f', {times} times' if times > 1 else ''}{memory}{killed}",
            "a container that runs",
            access.kubectl("-n", pod.namespace, "logs", pod.name, "-c", container.name, "--previous"),
            pod,
            log=container.name,
            outlives=math.inf,  # until it crashes again
            times=container.restarts,
        )


def _sees_wrongly(pod: Pod, event: Event, access: Access) -> Trouble:
    answer = event.message.partition(SEES_WRONGLY)[2]
    return Trouble(
        "wrong",
        0,
        f"{_place(pod)}: the vLLM server answers, and its answers are wrong: {answer}",
        "the right answers to the startup probe's questions about pictures",
        "is it the right model and revision? " + access.kubectl("-n", pod.namespace, "logs", pod.name),
        pod,
    )


def _unplaced(pod: Pod, access: Access) -> Trouble:
    short = "Insufficient" in pod.unplaced
    return Trouble(
        "shortage" if short else "placement",
        PLACE,
        f"pod {pod.name} finds no node: {pod.unplaced}",
        f"a node with {pod.gpus} free GPUs and the labels of `node_labels`",
        "free GPUs, add a node, or lower `replicas`; with `surge` above 0 a change needs that many more GPUs"
        if short
        else _describe(pod, access),
        pod,
        shortage=short,
    )


def _refused(deployment: Deployment, failure: str, access: Access) -> Trouble:
    """Return the trouble of a pod that the API server does not admit: quota, Pod Security, a webhook."""
    namespace = deployment.namespace
    seen, wanted, todo = failure, "a pod that the cluster admits", access.kubectl("-n", namespace, "get", "events")
    if "exceeded quota" in failure:
        wanted = "a quota with room for the pods of this change"
        todo = access.kubectl("-n", namespace, "describe", "quota") + "; `quota` and `surge` of glm-fleet:kubernetes"
    elif "violates PodSecurity" in failure:
        wanted = "a pod that Pod Security `restricted` admits"
        todo = "which variable of the stack asks for it? `fleet preflight` shows the whole answer"
    elif "admission webhook" in failure:
        wanted = "a pod that the cluster's webhooks admit"
        todo = "ask the cluster's owner about this webhook, or name an exception for this namespace"
    return Trouble("refused", REFUSAL, f"the cluster admits no pod: {seen}", wanted, todo)


def _overdue(deployment: Deployment, fresh: Sequence[Pod], access: Access) -> Trouble:
    late = [pod for pod in fresh if not pod.ready]
    states = ", ".join(f"{_place(pod)} {pod.state}" for pod in late) or "no new pod"
    return Trouble(
        "overdue",
        0,
        f"no progress within the Deployment's deadline: {states}",
        "pods that get ready in time (vllm_start_timeout)",
        _describe(late[0], access) if late else access.kubectl("-n", deployment.namespace, "get", "events"),
        late[0] if late else None,
        outlives=math.inf,  # until a pod gets ready, or another template has its deadline
    )


def _place(pod: Pod) -> str:
    return f"pod {pod.name} on {pod.node}" if pod.node else f"pod {pod.name}"


def _describe(pod: Pod, access: Access) -> str:
    return access.kubectl("-n", pod.namespace, "describe", "pod", pod.name)
