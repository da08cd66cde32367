"""Read the outputs and the state of a stack with `pulumi`, and open tunnels to its replicas.

Needs `pulumi` on PATH; opens connections only in `tunnel`. Called by the verbs.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import address, errors, ssh
from fleet.cli import common, pods

Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class Replica:
    """One replica: `name` is NODE/REPLICA, `model` the name of the served model.

    `address` is where it listens on its node: the path of a unix socket, or a port of the loopback. On a cluster `name` is MODEL/POD, and
    `connection` the outputs of the model's Rollout.
    """

    name: str
    address: int | str
    model: str
    connection: Mapping[str, Any]


def outputs(stack: str) -> dict[str, Any]:
    """Return the stack's outputs, secrets in clear. Raises FleetError when nothing serves.

    A failed update leaves a node without an output while its replicas may run on: the node then gets the last outputs of its resources.
    `failed` is {node: why its last change failed}, only for nodes whose last change failed. `saved` is when Pulumi
    wrote the state. `gateways` are the outputs of each Gateway by node, `authority_ends` is the last day of the stack's authority; empty without
    a gateway. On a cluster, `rollouts` are the outputs of each model's Rollout, with the pods that are there now.
    """
    values = whole(stack)
    if not replicas(values):
        raise errors.FleetError(
            doing=f"read the outputs of stack {stack}",
            seen="no replica serves",
            wanted="at least one, made by `pulumi up`",
            next=f"`pulumi up -s {stack}` reports what is missing",
        )
    return values


def whole(stack: str) -> dict[str, Any]:
    """Return the same outputs, also when nothing serves."""
    values: dict[str, Any] = ask(stack, "outputs", "stack", "output", "--json", "--show-secrets")
    exported = _export(stack)
    state = _resources(exported)
    by_node, by_kind = values.get("replicas") or {}, _by_kind(state)
    names = dict.fromkeys([*by_node, *by_kind.get("Serving", ())])
    values["replicas"] = {name: by_node.get(name) or _from_state(by_kind, name) for name in names}
    values["failed"] = _failures(state, [name for name in names if not by_node.get(name)])
    values["saved"] = (exported.get("manifest") or {}).get("time") or ""
    values["gateways"] = by_kind.get("Gateway", {})
    values["authority_ends"] = by_kind.get("Authority", {}).get("authority", {}).get("ends", "")
    values["rollouts"] = {model: pods.live(model, rollout) for model, rollout in by_kind.get("Rollout", {}).items()}
    return values


def outputs_noting_failures(stack: str, note: Callable[[str], None]) -> dict[str, Any]:
    """Return the stack's outputs; `note` gets a message for each node whose last change failed."""
    values = outputs(stack)
    for message in failures(values, stack):
        note(message)
    return values


def failures(outputs: Outputs, stack: str) -> list[str]:
    """Return a message for each node whose last change failed: its outputs are then older than the stack file."""
    return [
        f"{node}: the last change failed: {why}\n  next:   `pulumi up -s {stack}` goes on where it stopped"
        for node, why in (outputs.get("failed") or {}).items()
    ]


def deployed(stack: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {kind: {node: outputs}} of the fleet's resources in the stack's state (kinds: Weights, Serving …); secrets stay encrypted."""
    return _by_kind(_resources(_export(stack)))


def configured_key(stack: str) -> str:
    """Return the API key of the stack file, in clear: a stack whose first update failed has no output with it."""
    return str(ask(stack, "API key", "config", "get", "--json", "vllm_api_key").get("value") or "")


def _export(stack: str) -> dict[str, Any]:
    """Return the stack's state as Pulumi exports it."""
    return ask(stack, "state", "stack", "export").get("deployment") or {}


def _resources(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fleet's resources in a state, without those that Pulumi will delete."""
    return [
        item
        for item in state.get("resources") or ()
        if item["type"].startswith("fleet:index:") and not item.get("delete")
    ]


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return (kind, node) of a resource in the state."""
    return item["type"].rpartition(":")[2], item["urn"].rpartition("::")[2]


def _by_kind(state: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    outputs_by_kind: dict[str, dict[str, dict[str, Any]]] = {}
    for item in state:
        kind, node = _place(item)
        outputs_by_kind.setdefault(kind, {})[node] = item.get("outputs") or {}
    return outputs_by_kind


def _from_state(resources: Mapping[str, Mapping[str, Mapping[str, Any]]], node: str) -> dict[str, Any] | None:
    """Return the same as fleet.program.evidence, from a node's resources in the state; None when no replica serves."""
    serving = resources.get("Serving", {}).get(node)
    if not serving or not serving.get("replicas"):
        return None
    image = serving.get("image") or ""
    build = next((outputs for outputs in resources.get("Image", {}).values() if outputs.get("image") == image), {})
    phases = (
        resources.get(kind, {}).get(node, {}).get("seconds") or {} for kind in ("Host", "Image", "Weights", "Serving")
    )
    return {
        "connection": resources.get("Node", {}).get(node, {}).get("connection") or serving["node"],
        "image": image,
        "commit": build.get("commit") or "",
        "revision": (serving.get("weights") or {}).get("revision") or "",
        "replicas": serving["replicas"],
        "probes": serving.get("verdict"),
        "seconds": {role: duration for phase in phases for role, duration in phase.items()},
    }


def _failures(state: Sequence[Mapping[str, Any]], unfinished: Sequence[str]) -> dict[str, str]:
    """Return {node: why its last change failed}. An `unfinished` node may have no resource with an error in the state."""
    reasons_by_node = dict.fromkeys(unfinished, "it did not reach the end")
    for item in state:
        if reasons := item.get("initErrors"):
            kind, node = _place(item)
            reasons_by_node[node] = f"{kind}: {str(reasons[0]).splitlines()[0].removeprefix(f'{node}: ')}"
    return reasons_by_node


def ask(stack: str, what: str, *arguments: str) -> Any:
    """Return the JSON that a `pulumi` command prints about the stack. Raises FleetError without `pulumi`, and when the command fails."""
    doing, command = f"read the {what} of stack {stack}", ["pulumi", *arguments, "-s", stack]
    try:
        answer = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        todo = '`eval "$(make env)"`, once in each shell'
        raise errors.FleetError(doing=doing, seen="no `pulumi` on PATH", next=todo) from None
    if answer.returncode:
        raise errors.FleetError(
            doing=doing,
            seen=(answer.stderr.strip().splitlines() or [f"`pulumi` ended with {answer.returncode}"])[-1],
            next='`pulumi stack ls` shows the stacks; `eval "$(make env)"` sets where Pulumi keeps them',
        )
    return json.loads(answer.stdout or "{}")


def replicas(outputs: Outputs) -> list[Replica]:
    """Return all replicas in the stack's outputs, in the order of its nodes."""
    on_machines = [
        Replica(f"{node}/{replica['name']}", address.socket_or_port(replica), replica["model"], evidence["connection"])
        for node, evidence in outputs.get("replicas", {}).items()
        for replica in (evidence or {}).get("replicas") or ()
    ]
    in_pods = [
        Replica(f"{model}/{pod.name}", rollout["port"], rollout["model"], rollout)
        for model, rollout in outputs.get("rollouts", {}).items()
        for pod in rollout["live"]
        if pod.ready
    ]
    return on_machines + in_pods


def choose(outputs: Outputs, name: str) -> list[Replica]:
    """Return the replicas for `name`: NODE/REPLICA, all of NODE, or all for an empty name. Raises FleetError when none has it."""
    candidates = replicas(outputs)
    chosen = [item for item in candidates if not name or item.name == name or item.name.startswith(f"{name}/")]
    if not chosen:
        names = ", ".join(item.name for item in candidates)
        raise errors.FleetError(doing=f"choose replica {name}", seen="no such replica", wanted=names)
    return chosen


@contextlib.contextmanager
def tunnel(replica: Replica, port: int = 0) -> Iterator[str]:
    """Open a tunnel from `port` of this machine's loopback, 0 for a free one, to a replica. Yields the base URL without /v1."""
    if "cluster" in replica.connection:
        with pods.forward(replica.connection, replica.name.partition("/")[2], port) as url:
            yield url
        return
    with (
        ssh.connect(ssh.Target.from_inputs(replica.connection)) as connection,
        connection.forward(replica.address, local=port) as bound,
    ):
        yield f"http://127.0.0.1:{bound}"
