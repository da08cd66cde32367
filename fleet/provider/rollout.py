"""The resource Rollout: the pods of one model on a Kubernetes cluster, at the template of the stack, ready when the probes pass.

Kubernetes replaces the pods; this follows it. A change that fails goes back to the template that served before. Called by the servicer.
Needs fleet.cluster and fleet.probes; the Deployment is another resource's.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from fleet import drift, errors
from fleet.cluster import Access, Cluster, forward, rollout, workloads
from fleet.cluster.pods import Pod
from fleet.cluster.rollout import Change
from fleet.cluster.workloads import Deployment, ReplicaSet
from fleet.drift import Difference
from fleet.impact import pod_effects
from fleet.impact.effects import Effect
from fleet.provider import base, preview_summary, probing
from fleet.provider.base import BaseResource, InitFailed, Request
from fleet.provider.probing import RunProbes, Tally, run_probes
from fleet.provider.properties import Props

PORT = 8000
REQUIRED = ("cluster", "namespace", "deployment", "template", "replicas", "model", "probes", "api_key")
Connect = Callable[[Access, Request], Cluster]
Listen = Callable[[Cluster, str, str, int], forward.Listener]  # namespace, pod, port


def connect(access: Access, request: Request) -> Cluster:
    """Return the cluster of a context. Raises FleetError."""
    return Cluster(access, request.cancelled)


class Rollout(BaseResource):
    """Outputs: `pods`, with their nodes; `verdict` of the probes; `good`, digest and hash of the template that has passed them.

    `running` is the digest of the template that the pods have: after a failure that of before, "" where that is not certain.
    """

    computed = ("pods", "verdict", "good", "running", "drift", "seconds", "took")
    replace = ("namespace", "deployment")

    def __init__(
        self, run_probes: RunProbes = run_probes, connect: Connect = connect, listen: Listen = forward.Listener
    ) -> None:
        self._run_probes, self._connect, self._listen = run_probes, connect, listen

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return {property: problem} for an input that is missing."""
        return {name: "is missing" for name in REQUIRED if name not in inputs}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return which pods restart, start or stop, and how many serve at the worst moment."""
        return pod_effects.predict((old_inputs, old), inputs, drift.recorded(old))

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Follow the change until all pods serve, and probe them; else go back, and raise InitFailed."""
        begin = time.monotonic()
        old = old or {}
        outputs = {**inputs, "pods": [], "verdict": {}, "good": old.get("good") or {}, "drift": [], "seconds": {}}
        outputs |= {"running": "", "took": old.get("took") or {}}
        request.keep(lambda: outputs)
        try:
            cluster = self._connect(Access.from_inputs(inputs["cluster"]), request)
            change = _change(inputs, again=old.get("template") == inputs["template"])
            self._forward(request, cluster, change)
            pods = rollout.follow(cluster, change, lambda text: request.report(text, True))
            outputs["pods"] = [{"name": pod.name, "node": pod.node} for pod in pods]
            self._probe(request, cluster, inputs, outputs, pods)
        except (errors.RolloutFailed, errors.ProbeFailed) as error:
            raise InitFailed(outputs, self._back(request, cluster, change, outputs, error)) from error
        except errors.FleetError as error:
            raise InitFailed(outputs, error) from error
        seconds = time.monotonic() - begin
        predicted = self.effects(old, inputs, old) if old else []
        outputs["good"] = {"template": inputs["template"], "hash": pods[0].template_hash if pods else ""}
        outputs["running"] = inputs["template"]
        outputs["seconds"] = {"rollout": round(seconds, 1)}
        outputs["took"] = preview_summary.add_seconds(predicted, seconds, outputs["took"])
        return outputs

    def read(self, request: Request, properties: Props) -> Props | None:
        """Compare the pods with those that were probed. None without a Deployment: its own resource makes it again, and this follows it."""
        cluster = self._connect(Access.from_inputs(properties["cluster"]), request)
        found = workloads.read(cluster, properties["namespace"], properties["deployment"])
        if found is None:
            return None
        return {**properties, "drift": [difference.to_json() for difference in _differences(found, properties)]}

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing: the pods are the Deployment's."""

    # --- the parts of a change

    def _forward(self, request: Request, cluster: Cluster, change: Change) -> None:
        """Let the Deployment have the stack's template again, where it went back to another one: Pulumi's own state has it already.

        Where no pod was admitted, let Kubernetes try again.
        """
        found = workloads.read(cluster, change.namespace, change.deployment)
        if found is None:
            return
        wanted = found.with_digest(change.digest)
        if found.digest != change.digest and wanted is not None:
            request.report("goes forward again to the template of the stack", False)
            workloads.put_template(cluster, change.namespace, change.deployment, wanted.template)
        elif found.current and found.current.failure:
            workloads.try_again(cluster, change.namespace, change.deployment)

    def _probe(self, request: Request, cluster: Cluster, inputs: Props, outputs: Props, pods: Sequence[Pod]) -> None:
        """Send the probes to each pod through a port-forward. Raises ProbeFailed, or FleetError if it cannot ask."""
        folder = base.state_dir() / "evidence" / request.stack
        tally = Tally(request, self._run_probes, folder)
        for pod in pods:
            with self._listen(cluster, pod.namespace, pod.name, int(inputs.get("port") or PORT)) as listener:
                listener.check()
                tally.probe(inputs, pod.name, inputs["model"], f"http://127.0.0.1:{listener.port}")
        probed = tally.probed
        outputs["verdict"] = {"passed": probed.passed, "total": probed.total, "evidence": str(folder)}
        if probed.failures:
            raise probing.failed(request, outputs, probed)
        request.report(f"{probed.passed} of {probed.total} probes passed", False)

    def _back(
        self, request: Request, cluster: Cluster, change: Change, outputs: Props, error: errors.FleetError
    ) -> errors.FleetError:
        """Go back to the template that served before; return the error with what became of that."""
        digest = str(outputs["good"].get("template") or "")
        if not digest or digest == change.digest:
            return _more(error, "no earlier template has served: the pods stay as they are")
        try:
            before = self._earlier(cluster, change, digest)
            request.report("the change failed: goes back to the template that served before", False)
            workloads.put_template(cluster, change.namespace, change.deployment, before.template)
            back = dataclasses.replace(change, digest=digest, again=True)
            pods = rollout.follow(cluster, back, lambda text: request.report(f"goes back: {text}", True))
        except errors.FleetError as second:
            return _more(error, f"going back failed, too: {second.doing}: {second.seen}")
        outputs["running"] = digest
        outputs["pods"] = [{"name": pod.name, "node": pod.node} for pod in pods]
        return _more(error, f"went back to the template that served before: {len(pods)} of {len(pods)} pods serve it")

    def _earlier(self, cluster: Cluster, change: Change, digest: str) -> ReplicaSet:
        found = workloads.read(cluster, change.namespace, change.deployment)
        before = found.with_digest(digest) if found else None
        if before is None:
            raise errors.RolloutFailed(doing="find the template that served before", seen="its ReplicaSet is gone")
        return before


def _change(inputs: Props, again: bool) -> Change:
    return Change(
        namespace=inputs["namespace"],
        deployment=inputs["deployment"],
        digest=inputs["template"],
        seconds=float(inputs.get("deadline") or 0) * max(1, int(inputs["replicas"])),
        selector=inputs.get("selector") or {},
        again=again,
    )


def _differences(found: Deployment, properties: Props) -> Iterator[Difference]:
    """Yield what differs from the pods that were probed: another template, or pods that do not serve."""
    good, name = properties.get("good") or {}, found.name
    hash_now = found.current.hash if found.current else "none"
    if good.get("hash") and hash_now != good["hash"]:
        yield Difference("deployment", name, "template", good["hash"], hash_now)
    replicas = int(properties["replicas"])  # the stack's: a Deployment that was scaled by hand has all of its own
    if found.available != replicas:
        yield Difference("deployment", name, "pods", replicas, found.available)


def _more(error: errors.FleetError, line: str) -> errors.FleetError:
    """Return the error with one more line about what was seen."""
    parts = {"node": error.node, "doing": error.doing, "wanted": error.wanted, "next": error.next}
    return type(error)(seen=f"{error.seen}\n{line}", **parts)
