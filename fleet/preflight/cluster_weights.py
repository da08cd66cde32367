"""Checks whether a fetch of the weights has failed on a cluster, and why: Pulumi's plugin says only that its Job has.

Called by cluster.py. Needs the rights to read pods and their logs.
"""

import contextlib
from collections.abc import Iterator

from fleet import errors
from fleet.cluster import Cluster, pods
from fleet.cluster.pods import Pod
from fleet.preflight.form import CheckResult, ok, warning

CHECK = "weights"
JOB = {"glm-fleet/job": "weights"}  # label of the pods of fleet.program.kubernetes


def check(cluster: Cluster, namespace: str) -> Iterator[CheckResult]:
    """Yield a warning for each Job on each node whose last pod has failed, with the last lines of it. Raises FleetError."""
    found = sorted(pods.of_namespace(cluster, namespace, JOB), key=lambda pod: pod.created)
    last = {(pod.owner, pod.node): pod for pod in found}.values()
    failed = [pod for pod in last if pod.phase == "Failed"]
    for pod in failed:
        todo = f"what it says; the next `pulumi up` makes a new Job; {_log(cluster, pod)}"
        yield warning(CHECK, _seen(cluster, pod), "weights that are fetched and verified", todo)
    if not failed:
        yield ok(CHECK, "no fetch has failed")


def _ended(pod: Pod) -> str:
    """Return the name of the container that ended with an error, "" where the pod itself was ended."""
    return next((each.name for each in pod.containers if each.exit_code), "")


def _seen(cluster: Cluster, pod: Pod) -> str:
    name, lines = _ended(pod), list[str]()
    if name:
        with contextlib.suppress(errors.FleetError):  # they only add to the message
            lines = [f"| {line}" for line in pods.last_lines(cluster, pod, name, previous=False)]
    what = f"{name} has failed" if name else pod.problem or "it has failed"
    return "\n".join([f"pod {pod.name} on {pod.node or 'no node'}: {what}", *lines])


def _log(cluster: Cluster, pod: Pod) -> str:
    container = ["-c", name] if (name := _ended(pod)) else []
    return cluster.access.kubectl("-n", pod.namespace, "logs", pod.name, *container)
