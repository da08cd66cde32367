"""The pods of a stack on a Kubernetes cluster, as they are now: their table, and a tunnel to one. fleet.cluster asks the API server.

Called by stack_outputs.py and show.py, for every verb that works on replicas.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.cli.table import columns, phases, short

HEAD = ("model", "pod", "node", "state", "image", "probes", "time by phase")
MODEL = "glm-fleet/model"  # label of a model's pods
PORT = 8000
Rollout = Mapping[str, Any]


def live(model: str, rollout: Rollout) -> dict[str, Any]:
    """Return the outputs of a model's Rollout, with its pods as they are now in `live`. Raises FleetError."""
    from fleet.cluster import Access, Cluster, pods

    cluster = Cluster(Access.from_inputs(rollout["cluster"]))
    found = pods.of_namespace(cluster, rollout["namespace"], {MODEL: rollout.get("deployment") or model})
    return {**rollout, "port": int(rollout.get("port") or PORT), "live": found}


def table(rollouts: Mapping[str, Rollout]) -> str:
    """Return one line per pod. Probes that an earlier pod has passed say nothing of a pod that came after them."""
    return columns([HEAD, *(line for model, rollout in rollouts.items() for line in _lines(model, rollout))])


def _lines(model: str, rollout: Rollout) -> list[tuple[str, ...]]:
    verdict, probed = rollout.get("verdict") or {}, {pod["name"] for pod in rollout.get("pods") or ()}
    passed = f"{verdict['passed']:.0f}/{verdict['total']:.0f}" if verdict else "none"
    time = phases(rollout.get("seconds") or {})
    return [
        (model, pod.name, pod.node or "-", pod.state, short(pod.image), passed if pod.name in probed else "none", time)
        for pod in rollout["live"]
    ] or [(model, *["-"] * 5, time)]


@contextlib.contextmanager
def forward(rollout: Rollout, pod: str, local: int) -> Iterator[str]:
    """Forward a port of this machine's loopback, 0 for a free one, to a pod. Yields the base URL. Raises FleetError."""
    from fleet.cluster import Access, Cluster
    from fleet.cluster import forward as forwarding

    cluster = Cluster(Access.from_inputs(rollout["cluster"]))
    with forwarding.Listener(cluster, rollout["namespace"], pod, rollout["port"], local) as listener:
        listener.check()
        yield f"http://127.0.0.1:{listener.port}"
