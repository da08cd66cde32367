"""`fleet drain` and `fleet undrain` on a Kubernetes cluster: a node without the pods of a stack. fleet.cluster.drain does it.

Called by drain.py and undrain.py, with the outputs of the stack's Rollouts.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence

from fleet import errors
from fleet.cli import pod_nodes
from fleet.cli.pods import MODEL, Rollout
from fleet.cluster import Access, Cluster, drain, nodes, pods
from fleet.cluster.drain import Outcome
from fleet.cluster.nodes import Node
from fleet.cluster.pods import Pod

Models = Mapping[str, Sequence[Pod]]


class Place:
    """A node of the cluster on which the stack's models are. Raises FleetError for a name that is no node."""

    def __init__(self, verb: str, stack: str, rollouts: Mapping[str, Rollout], name: str) -> None:
        if not rollouts:
            raise errors.FleetError(doing=verb, seen="the stack has no pods", next=f"`pulumi up -s {stack}` makes them")
        first = next(iter(rollouts.values()))
        self.verb, self.stack, self.name = verb, shlex.quote(stack), name
        self.access, self.namespace = Access.from_inputs(first["cluster"]), str(first["namespace"])
        self._models = {model: str(rollout.get("deployment") or model) for model, rollout in rollouts.items()}
        if "/" in name:
            raise self._error(
                "Kubernetes replaces a pod as soon as it has gone: no pod stays drained",
                "the name of a node",
                self.access.kubectl("delete", "pod", "-n", self.namespace, name.rpartition("/")[2]),
            )
        self.cluster = Cluster(self.access)
        others = [node.name for node in nodes.read(self.cluster) if node.gpus]
        if name not in others:
            raise self._error("no such node with GPUs", ", ".join(sorted(others)), "")

    def models(self) -> Models:
        """Return the pods of each model."""
        return {
            model: pods.of_namespace(self.cluster, self.namespace, {MODEL: deployment})
            for model, deployment in self._models.items()
        }

    def no_right(self, error: errors.ClusterRefused, instead: str) -> errors.FleetError:
        """Return the error without a right; `instead` is what the cluster's owner may do in place of giving it."""
        if error.code != 403:
            return error
        wanted = "the rights that `fleet rights --drain` prints"
        return self._error(error.seen, wanted, f"the cluster's owner applies them, or runs {instead}")

    def _error(self, seen: str, wanted: str, todo: str) -> errors.FleetError:
        return errors.FleetError(node=self.name, doing=self.verb, seen=seen, wanted=wanted, next=todo)

    def refuse_last(self, models: Models) -> None:
        """Raise FleetError if a model has its only ready pod there: the disruption budget of one pod lets it go."""
        for model, found in models.items():
            ready = [pod for pod in found if pod.ready and not pod.deleting]
            if len(ready) == 1 and ready[0].node == self.name:
                raise self._error(
                    f"the only pod of {model} that serves is there: until another one sees, clients get errors",
                    "a pod elsewhere that serves",
                    "`replicas` in the stack file, or give --even-last",
                )


def out(
    stack: str,
    rollouts: Mapping[str, Rollout],
    name: str,
    even_last: bool,
    seconds: float,
    note: Callable[[str], None],
) -> tuple[str, bool]:
    """Cordon a node and evict the stack's pods; return the report, and whether none is left. Raises FleetError."""
    place = Place("drain", stack, rollouts, name)
    if not even_last:
        place.refuse_last(place.models())
    try:
        before = drain.cordon(place.cluster, name, place.namespace)
    except errors.ClusterRefused as error:
        command = place.access.kubectl("cordon", name)
        raise place.no_right(error, f"{command}; then `fleet drain` again evicts the pods") from error
    try:
        outcome = drain.evict(place.cluster, name, place.namespace, MODEL, seconds, note)
    except errors.ClusterRefused as error:
        command = place.access.kubectl("drain", name, "--ignore-daemonsets", "--delete-emptydir-data")
        raise place.no_right(error, command) from error
    return report(place, before, outcome, seconds), outcome.empty


def report(place: Place, before: Node, outcome: Outcome, seconds: float) -> str:
    """Return what has gone, what is held back and why, which pods of each model serve, and how to end the drain."""
    count = len(outcome.evicted)
    gone = f"evicted {', '.join(outcome.evicted)}" if count else "no pod of this stack was there"
    lines = [f"{place.name} takes no new pods; {gone}"]
    lines += [f"held back after {seconds:g} s: {name}: {why}" for name, why in outcome.held.items()]
    lines += [f"still ends after {seconds:g} s: {name}" for name in outcome.ending]
    for model, found in place.models().items():
        ready = sum(pod.ready and not pod.deleting for pod in found)
        lines.append(f"{model}: {ready} of {sum(not pod.deleting for pod in found)} pods serve")
    return "\n".join([*lines, _back(place, before)])


def _back(place: Place, before: Node) -> str:
    """Return how the node takes pods again."""
    if not before.cordoned or before.drained_by == place.namespace:
        return f"`fleet undrain -s {place.stack} {shlex.quote(place.name)}` lets it take pods again"
    return f"{pod_nodes.who(before)} had cordoned it before: `fleet undrain` leaves that as it is"


def back(stack: str, rollouts: Mapping[str, Rollout], name: str) -> str:
    """Let a node take pods again, if this stack has cordoned it; return the report. Raises FleetError."""
    place = Place("undrain", stack, rollouts, name)
    try:
        before = drain.uncordon(place.cluster, name, place.namespace)
    except errors.ClusterRefused as error:
        raise place.no_right(error, place.access.kubectl("uncordon", name)) from error
    if not before.cordoned:
        return f"{name} is not drained"
    if before.drained_by != place.namespace:
        raise errors.FleetError(
            node=name,
            doing="undrain",
            seen=f"{pod_nodes.who(before)} has cordoned it",
            wanted="a drain of this stack",
            next=f"its owner knows why; {place.access.kubectl('uncordon', name)}",
        )
    return f"{name} takes pods again; those that run elsewhere stay there"
