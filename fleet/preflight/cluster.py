"""Checks whether a Kubernetes cluster meets a stack's requirements, before anything is made there. Reads only.

Needs a context of its kubeconfig. Called by fleet.cli.preflight, with the requirements as data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import errors
from fleet.cluster import Cluster, access_review, gpus, namespaces, nodes
from fleet.cluster.forms import WORD
from fleet.preflight import cluster_admission, cluster_weights
from fleet.preflight.cluster_admission import StackObject
from fleet.preflight.form import CheckResult, ok
from fleet.validators import Each, Record

VERSION = Record({"gitVersion": WORD, "major": WORD, "minor": WORD}, open=True)
KINDS = Record({"resources": Each(Record({"kind": WORD}, open=True), most=1000)}, open=True)
OLDEST = 30  # Kubernetes 1.30: a preStop that sleeps
OLDEST_WITH_IMAGES = 33  # image volumes without a feature gate


@dataclass(frozen=True)
class Wanted:
    """What a stack wants of its cluster: `rights` are the rules by namespace, `kinds` the paths of versions that must have a kind."""

    owner: str
    namespace: str
    namespaces: Sequence[str]
    fetches: str  # the namespace of the Jobs that fetch the weights
    selector: Mapping[str, Sequence[str]]
    gpus: int  # of all replicas
    most: int  # of one replica
    rights: Mapping[str, Sequence[Mapping[str, Any]]]
    kinds: Mapping[str, str]  # {kind: apiVersion} of those that a cluster may lack
    others: Mapping[str, str]  # {path: what is there}, such as a storage class
    objects: Sequence[StackObject] = ()
    image_volume: bool = False


def check(cluster: Cluster, wanted: Wanted) -> list[CheckResult]:
    """Return the result of each check; one that cannot be made is an error of its own."""
    return [
        *(_result(name, run, cluster, wanted) for name, run in CHECKS.items()),
        *_results(cluster_weights.CHECK, lambda: cluster_weights.check(cluster, wanted.fetches)),
        *_results(
            cluster_admission.CHECK,
            lambda: cluster_admission.check(cluster, wanted.objects, dict(_closed(cluster, wanted))),
        ),
    ]


def _result(name: str, run: "Run", cluster: Cluster, wanted: Wanted) -> CheckResult:
    try:
        return ok(name, run(cluster, wanted))
    except errors.FleetError as error:
        return CheckResult(error.seen, error.wanted, error.next, check=name, level="error")


def _version(cluster: Cluster, wanted: Wanted) -> str:
    found = cluster.get("read its version", "/version", VERSION)
    minor, oldest = found["minor"].rstrip("+"), OLDEST_WITH_IMAGES if wanted.image_volume else OLDEST
    if found["major"] == "1" and minor.isdecimal() and int(minor) < oldest:
        raise errors.NotReady(
            seen=f"Kubernetes {found['gitVersion']}", wanted=f"1.{oldest} or later", next="upgrade the cluster"
        )
    return str(found["gitVersion"])


def _nodes(cluster: Cluster, wanted: Wanted) -> str:
    found = nodes.with_gpus(cluster, wanted.selector)
    total, largest = sum(node.gpus for node in found), max(node.gpus for node in found)
    words = f"{len(found)} nodes with {total} GPUs"
    if total < wanted.gpus or largest < wanted.most:
        seen = f"{words}, at most {largest} on one"
        raise errors.NotReady(
            seen=seen,
            wanted=f"{wanted.gpus} GPUs, {wanted.most} on one node for a replica",
            next="lower `replicas`, or add nodes",
        )
    return words


def _free(cluster: Cluster, wanted: Wanted) -> str:
    return "\n".join(gpus.look(cluster, wanted.selector, wanted.namespace).lines())


def _namespaces(cluster: Cluster, wanted: Wanted) -> str:
    there = {name: namespaces.check_owner(cluster, name, wanted.owner) for name in wanted.namespaces}
    return ", ".join(f"{name} is {'its own' if exists else 'free'}" for name, exists in there.items())


def _rights(cluster: Cluster, wanted: Wanted) -> str:
    lacking = []
    for space, rules in wanted.rights.items():
        lacking += [f"{line} in {space}" for line in access_review.missing(rules, access_review.given(cluster, space))]
    if lacking:
        more = [f"and {len(lacking) - 8} more"] if len(lacking) > 8 else []
        raise errors.NotReady(
            seen="\n".join(["this account may not:", *lacking[:8], *more]),
            wanted="the rights that `fleet rights` prints",
            next="the cluster's owner applies what `fleet rights` prints",
        )
    return "all that `fleet rights` prints"


def _kinds(cluster: Cluster, wanted: Wanted) -> str:
    for kind, version in wanted.kinds.items():
        found = cluster.find(f"look for {kind}", f"/apis/{version}", KINDS)
        if not any(each["kind"] == kind for each in (found or {}).get("resources") or ()):
            raise errors.NotReady(
                seen=f"no {kind} in {version}",
                wanted="its CustomResourceDefinition",
                next="the cluster's owner installs it",
            )
    for path, what in wanted.others.items():
        if cluster.find(f"look for {what}", path, Record({}, open=True)) is None:
            raise errors.NotReady(
                seen=f"there is no {what}",
                wanted="one of the cluster's",
                next="another name in the stack file, or its owner makes it",
            )
    return ", ".join([*wanted.kinds, *wanted.others.values()]) or "nothing more is needed"


def _results(name: str, run: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """Yield what a check says; an error where the server does not answer it."""
    try:
        yield from run()
    except errors.FleetError as error:
        yield CheckResult(error.seen, error.wanted, error.next, check=name, level="error")


def _closed(cluster: Cluster, wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Yield each namespace in which nothing can be judged, with its reason."""
    for name in wanted.namespaces:
        try:
            if not namespaces.check_owner(cluster, name, wanted.owner):
                yield name, f"namespace {name} is not there yet"
        except errors.FleetError as error:
            yield name, f"namespace {name} {error.seen.removeprefix('it ')}"


Run = Callable[[Cluster, Wanted], str]
CHECKS: Mapping[str, Run] = {
    "version": _version,
    "GPU nodes": _nodes,
    "free GPUs": _free,
    "namespaces": _namespaces,
    "rights": _rights,
    "parts of the cluster": _kinds,
}
