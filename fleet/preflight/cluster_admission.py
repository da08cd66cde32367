"""Checks what a cluster's admission says of every object of a stack, and of their pods, by server dry runs. Nothing is made.

Called by cluster.py. fleet.cluster.dry_run asks.
"""

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet import errors
from fleet.cluster import Cluster, dry_run
from fleet.preflight.form import CheckResult, error, ok, warning

CHECK = "admission"
PODS = ("Deployment", "Job")  # kinds that make pods
POD_SECURITY = "would violate PodSecurity"  # how the server warns of a workload whose pods it will refuse
RIGHTS = "this account lacks rights, which the check `rights` names"
KINDS = "the cluster does not know their kind"


@dataclass(frozen=True)
class StackObject:
    """An object of a stack: `what` names it in messages, `path` is where the API server has it."""

    what: str
    path: str
    manifest: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Its namespace, "" for an object of the whole cluster."""
        return str(self.manifest["metadata"].get("namespace", ""))


@dataclass
class _Tally:
    """How many were judged, those that were not by the reason, and whether this account may ask about pods."""

    objects: int = 0
    pods: int = 0
    left: dict[str, list[str]] = field(default_factory=dict)
    may_ask_about_pods: bool = True


def check(cluster: Cluster, objects: Sequence[StackObject], closed: Mapping[str, str]) -> Iterator[CheckResult]:
    """Yield an error for each object that the server refuses, a warning for each of its own, and what was not judged.

    `closed` has the reason for each namespace in which nothing can be judged. Raises FleetError where the server does not answer.
    """
    tally = _Tally()
    for each in objects:
        if reason := closed.get(each.namespace):
            tally.left.setdefault(reason, []).append(each.what)
            continue
        ask = functools.partial(dry_run.of_object, cluster, each.what, each.path, each.manifest)
        notes = yield from _ask(ask, each.what, tally)
        tally.objects += notes is not None
        if notes is not None and each.manifest["kind"] in PODS:
            notes = yield from _with_pod(cluster, each, notes, tally)
        yield from (_noted(each.what, note) for note in dict.fromkeys(notes or ()))
    yield from _summary(tally)


Asked = Generator[CheckResult, None, Sequence[str] | None]


def _ask(ask: Callable[[], Sequence[str]], what: str, tally: _Tally) -> Asked:
    """Return the server's warnings; after a refusal yield its result, and return None."""
    try:
        return ask()
    except errors.ClusterRefused as refusal:
        if reason := _not_judged(refusal):
            tally.left.setdefault(reason, []).append(what)
        else:
            yield _refused(refusal, what)
    return None


def _with_pod(cluster: Cluster, workload: StackObject, notes: Sequence[str], tally: _Tally) -> Asked:
    """Return the warnings about a workload and its pod. What it says of a workload's Pod Security is only its guess about the pod."""
    if not tally.may_ask_about_pods:
        return notes
    try:
        about = dry_run.of_pod(cluster, workload.what, workload.manifest)
    except errors.ClusterRefused as refusal:
        if _lacks_right(refusal):
            tally.may_ask_about_pods = False
            return notes
        yield _refused(refusal, f"a pod of {workload.what}")
        about = ()
    tally.pods += 1
    return [*(note for note in notes if not note.startswith(POD_SECURITY)), *about]


def _not_judged(refusal: errors.ClusterRefused) -> str:
    """Return why a refusal says nothing of the object; "" for one that does."""
    if _lacks_right(refusal):
        return RIGHTS
    return KINDS if refusal.code == 404 else ""


def _lacks_right(refusal: errors.ClusterRefused) -> bool:
    """Return whether the account may not ask; an admission that refuses uses other words."""
    return refusal.code == 403 and "is forbidden: User" in refusal.seen


def _refused(refusal: errors.ClusterRefused, what: str) -> CheckResult:
    """Return the result for a refusal, with the server's words."""
    seen = f"{what}: {refusal.seen}"
    if refusal.code == 422 and "immutable" in refusal.seen:
        todo = "`pulumi preview` shows it: `up` deletes the object and makes it again, unless it is protected"
        return warning(CHECK, seen, "a change that can be made to the object that exists", todo)
    known = "webhook" in refusal.seen or refusal.code >= 500
    todo = (
        refusal.next if known else "change what the stack file says of it, or ask the cluster's owner about this rule"
    )
    return error(CHECK, seen, refusal.wanted or "an object that the cluster admits", todo)


def _noted(what: str, note: str) -> CheckResult:
    """Return the result for a warning of the server."""
    if note.startswith(POD_SECURITY):
        todo = "the level is a label of the namespace; who has changed it?"
        return error(CHECK, f"{what}: {note}", "pods that the namespace's Pod Security admits", todo)
    return warning(CHECK, f"{what}: {note}", "an object without a warning", "ask the cluster's owner about this rule")


def _summary(tally: _Tally) -> Iterator[CheckResult]:
    for reason, names in tally.left.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield warning(
            CHECK,
            f"not judged: {', '.join(names[:3])}{more}: {reason}",
            "the server's word on every object",
            "`fleet preflight` again, once this is no longer so",
        )
    pods = f"pods of {tally.pods}" if tally.may_ask_about_pods else "not their pods, which this account may not create"
    yield ok(CHECK, f"{tally.objects} objects were judged, and {pods}")
