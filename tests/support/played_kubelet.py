"""Plays the kubelets of a real API server with controllers (api_server.py): reports pods as their template says, ends those that are deleted.

A pod's annotation `plays` is one word: `ready` (also without it), `crash`, `wrong` (its startup probe sees wrongly), `pull` and `backoff` (no image),
`never` (it stays as it is). A Job's pods succeed. Used by tests/kubernetes.
"""

import datetime
import threading
from collections.abc import Callable
from typing import Any

from tests.support.api_server import ApiServer, Object, RefusedError, end_pod, make_ready

PLAYS = "plays"
WRONG = "Startup probe failed: sees wrongly: bottle-grounding: answered '[0, 0, 10, 10]' (IoU 0.02 with the true box, wanted 0.5)"


def annotated(pod: Object) -> str:
    """Return the annotation of a pod's template."""
    return str((pod["metadata"].get("annotations") or {}).get(PLAYS, "ready"))


class Kubelet:
    """One thread for all nodes; `plays` says how a pod behaves, by default the annotation of its template."""

    def __init__(self, server: ApiServer, namespace: str, plays: Callable[[Object], str] = annotated) -> None:
        self._server, self._namespace, self._plays = server, namespace, plays
        self._end = threading.Event()
        self._reported: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="kubelet")
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.1):
            for pod in self._server.request("GET", f"/api/v1/namespaces/{self._namespace}/pods")["items"]:
                try:
                    self._report({"apiVersion": "v1", "kind": "Pod", **pod})
                except RefusedError as error:
                    if error.code not in (404, 409):  # somebody else was faster
                        raise

    def _report(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            end_pod(self._server, pod)
        elif pod["spec"].get("nodeName") and uid not in self._reported:
            plays = self._plays(pod)
            if any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", ())):
                self._server.set_status(pod, {"phase": "Succeeded"})
            elif plays == "ready":
                make_ready(self._server, pod)
            elif plays != "never":
                self._server.set_status(pod, {"phase": "Running", **STATUSES[plays]})
                if plays == "wrong":
                    self._event(pod)
            self._reported.add(uid)

    def _event(self, pod: Object) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        place = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
        event = {
            "metadata": {"generateName": "probe-", "namespace": self._namespace},
            "involvedObject": {"kind": "Pod", "apiVersion": "v1", **place},
            "reason": "Unhealthy",
            "message": WRONG,
            "type": "Warning",
            "count": 3,
            "firstTimestamp": now,
            "lastTimestamp": now,
        }
        self._server.request("POST", f"/api/v1/namespaces/{self._namespace}/events", event)


def _container(**more: Any) -> dict[str, Any]:
    started = {"name": "vllm", "image": "vllm", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [{**started, **more}]}


STATUSES: dict[str, dict[str, Any]] = {
    "wrong": _container(state={"running": {}}),
    "crash": _container(
        restartCount=2,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}},
        lastState={"terminated": {"exitCode": 1, "reason": "Error"}},
    ),
    "backoff": {
        "phase": "Pending",
        **_container(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}}),
    },
    "pull": {
        "phase": "Pending",
        **_container(state={"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}}),
    },
}
