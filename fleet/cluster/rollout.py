"""Follow a change of a Deployment until all its pods serve with the new template, or until it is certain that they will not.

Kubernetes replaces the pods, one after the other; this only looks. Needs the rights to read Deployments, ReplicaSets, pods, events and logs.
Called by fleet.provider.rollout.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fleet import errors
from fleet.cluster import events, gpus, pods, verdicts, workloads
from fleet.cluster.client import Cluster
from fleet.cluster.events import Event
from fleet.cluster.nodes import Selector
from fleet.cluster.pods import Pod
from fleet.cluster.verdicts import Patience, Trouble
from fleet.cluster.workloads import Deployment

INTERVAL = 2.0  # seconds between two looks
GONE = 180.0  # seconds for which an API server may not answer: it restarts, or the way to it is broken
Clock = Callable[[], float]


@dataclass(frozen=True)
class Change:
    """A change to follow: the Deployment, the digest of the new template, the seconds that all may take.

    `again`: an earlier one to the same template may have left pods that wait, and reports of troubles that are mended by now.
    """

    namespace: str
    deployment: str
    digest: str
    seconds: float
    selector: Selector = field(default_factory=dict)  # of the GPU nodes
    again: bool = False


@dataclass(frozen=True)
class Look:
    """A Deployment, its pods and their events at one time."""

    deployment: Deployment
    pods: Sequence[Pod]
    events: Sequence[Event]

    @property
    def fresh(self) -> list[Pod]:
        """The pods with the newest template that nobody has deleted."""
        current = self.deployment.current
        return [pod for pod in self.pods if current and pod.template_hash == current.hash and not pod.deleting]

    @property
    def line(self) -> str:
        """How far the change is, in one line."""
        ready = sum(pod.ready for pod in self.fresh)
        others = [
            f"{pod.name}{f' on {pod.node}' if pod.node else ''} {pod.state}" for pod in self.fresh if not pod.ready
        ]
        old = len(self.pods) - len(self.fresh)
        text = f"{ready} of {self.deployment.replicas} pods serve with the new template"
        return "; ".join([text, *others[:3], *([f"{old} of before"] if old else [])])


def look(cluster: Cluster, change: Change) -> Look:
    """Return how the change is now. Raises FleetError, also without the Deployment."""
    deployment = workloads.read(cluster, change.namespace, change.deployment)
    if deployment is None:
        raise errors.RolloutFailed(
            node=change.deployment,
            doing="follow the change of its pods",
            seen=f"namespace {change.namespace} of {cluster.name} has no Deployment {change.deployment}",
            wanted="the Deployment that this stack has made",
            next="`pulumi up --refresh` makes it again",
        )
    every = pods.of_namespace(cluster, change.namespace, deployment.labels)
    late = {pod.uid for pod in every if not pod.ready and not pod.deleting}
    return Look(deployment, every, events.of_pods(cluster, change.namespace, late))


def follow(cluster: Cluster, change: Change, note: Callable[[str], None], clock: Clock = time.monotonic) -> list[Pod]:
    """Return the pods once all serve with the new template. Raises RolloutFailed, ClusterUnreachable, Cancelled.

    `note` gets a line when something is new.
    """
    begin, last, line = clock(), clock(), ""
    patience = Patience(change.again)
    while True:
        try:
            now = look(cluster, change)
            last = clock()
        except (errors.ClusterUnreachable, errors.ClusterRefused) as error:
            passing = isinstance(error, errors.ClusterUnreachable) or error.code >= 500
            if not passing or clock() - last > GONE:
                raise
            note(f"waits for the API server: {error.seen}")
        else:
            if now.deployment.digest != change.digest:
                raise _another(cluster, change, now)
            if now.deployment.serves and now.deployment.current:
                return now.fresh
            if now.line != line:
                line = now.line
                note(line)
            current = verdicts.troubles(now.deployment, now.pods, now.events, cluster.access)
            if trouble := patience.ended(current, clock()):
                raise failure(cluster, change, trouble)
            if clock() - begin > change.seconds:
                raise _late(cluster, change, now)
        if cluster.cancelled.wait(INTERVAL):
            raise errors.Cancelled(
                node=change.deployment,
                doing="follow the change of its pods",
                seen="cancelled; Kubernetes goes on with the change by itself",
                next="`pulumi up` follows it again",
            )


def failure(cluster: Cluster, change: Change, trouble: Trouble) -> errors.RolloutFailed:
    """Return the error for a trouble: a shortage with who holds the GPUs, an end of a container with its last lines."""
    lines: list[str] = []
    with contextlib.suppress(errors.FleetError):  # they only add to the message
        if trouble.shortage:
            lines = gpus.look(cluster, change.selector, change.namespace).lines()
        elif trouble.log and trouble.pod:
            lines = [f"| {line}" for line in pods.last_lines(cluster, trouble.pod, trouble.log, previous=True)]
    return errors.RolloutFailed(
        node=change.deployment,
        doing="change its pods",
        seen="\n".join([trouble.seen, *lines]),
        wanted=trouble.wanted,
        next=trouble.next,
    )


def _another(cluster: Cluster, change: Change, now: Look) -> errors.RolloutFailed:
    where = ("-n", change.namespace, "rollout", "history", f"deployment/{change.deployment}")
    return errors.RolloutFailed(
        node=change.deployment,
        doing="change its pods",
        seen=f"its template is another one: {now.deployment.digest or 'somebody else has changed it'}",
        wanted=f"the template {change.digest} of this stack",
        next=f"{cluster.access.kubectl(*where)}; `pulumi up --refresh` puts the stack's own back",
    )


def _late(cluster: Cluster, change: Change, now: Look) -> errors.RolloutFailed:
    waiting = [pod for pod in now.fresh if not pod.ready]
    return errors.RolloutFailed(
        node=change.deployment,
        doing="change its pods",
        seen=f"not done within {change.seconds:.0f} s: {now.line}",
        wanted="pods that get ready in time (vllm_start_timeout)",
        next=cluster.access.kubectl("-n", change.namespace, "describe", "pod", *[pod.name for pod in waiting[:1]]),
    )
