"""The events of pods that explain why they do not get ready. Needs the right to list events. Called by rollout.py."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.cluster.client import Cluster
from fleet.cluster.forms import ANY, COUNT, UID, WORDS, text
from fleet.validators import Record

EVENT = Record(
    {"involvedObject": Record({}, {"uid": UID}, open=True)},
    {"metadata": ANY, "reason": WORDS, "message": WORDS, "count": COUNT},
    open=True,
)
# Of the kubelet: a probe that failed, a volume that is not there. Of the autoscaler: a node is on its way.
UNHEALTHY, UNMOUNTED, GROWING = "Unhealthy", ("FailedMount", "FailedAttachVolume"), "TriggeredScaleUp"


@dataclass(frozen=True)
class Event:
    """What happened to a pod, and how often."""

    pod: str  # its uid
    reason: str
    message: str
    count: int = 1


def of_pods(cluster: Cluster, namespace: str, uids: Collection[str]) -> list[Event]:
    """Return the events of these pods. Raises FleetError."""
    if not uids:
        return []
    query = {"fieldSelector": "involvedObject.kind=Pod"}
    path = f"/api/v1/namespaces/{namespace}/events"
    found = map(event, cluster.list("list the events of the pods", path, EVENT, **query))
    return [each for each in found if each.pod in uids]


def event(item: Mapping[str, Any]) -> Event:
    """Return an event from its object, whose form is right."""
    uid = item["involvedObject"].get("uid", "")
    return Event(uid, text(item, "reason"), text(item, "message", 600), item.get("count") or 1)
