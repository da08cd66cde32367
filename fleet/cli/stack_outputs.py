"""The outputs and the state of a stack, read with `pulumi`, and tunnels to its replicas.

Called by the verbs. Needs `pulumi` on PATH; opens connections only in `tunnel`.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import address, errors, ssh

ROOT = Path(__file__).resolve().parents[2]

Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class Replica:
    """One replica: `name` is NODE/REPLICA, `model` the name it is served under.

    It listens at `address` on its node: the path of a unix socket, or a port of the loopback.
    """

    name: str
    address: int | str
    model: str
    connection: Mapping[str, Any]


def outputs(stack: str) -> dict[str, Any]:
    """Return the stack's outputs, secrets in clear; FleetError when nothing serves.

    A failed update leaves a node without an output while its replicas may run on: what its resources last reported stands in for it.
    `failed` is {node: why its last change failed}, without the nodes whose last change succeeded.
    """
    found: dict[str, Any] = _ask(stack, "outputs", "stack", "output", "--json", "--show-secrets")
    state = _state(stack)
    shown = found.get("replicas") or {}
    names = dict.fromkeys([*shown, *_by_kind(state).get("Serving", ())])
    found["replicas"] = {name: shown.get(name) or _from_state(_by_kind(state), name) for name in names}
    found["failed"] = _failures(state, [name for name in names if not shown.get(name)])
    if not replicas(found):
        raise errors.FleetError(
            doing=f"read the outputs of stack {stack}",
            seen="no replica serves",
            wanted="at least one, made by `pulumi up`",
            next=f"`pulumi up -s {stack}` says what is missing",
        )
    return found


def outputs_noting_failures(stack: str, note: Callable[[str], None]) -> dict[str, Any]:
    """Return the stack's outputs; `note` gets a message for each node whose last change failed."""
    found = outputs(stack)
    for message in failures(found, stack):
        note(message)
    return found


def failures(outputs: Outputs, stack: str) -> list[str]:
    """Return a message for each node whose last change failed: the table and the other verbs then speak of what was there before."""
    return [
        f"{node}: the last change failed: {why}\n  next:   `pulumi up -s {stack}` goes on where it stopped"
        for node, why in (outputs.get("failed") or {}).items()
    ]


def deployed(stack: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {kind: {node: outputs}} of the fleet's resources in the stack's state (Weights, Serving …); secrets stay encrypted."""
    return _by_kind(_state(stack))


def configured_key(stack: str) -> str:
    """Return the API key of the stack file, in clear: for a stack whose first update failed, which has no output of it."""
    return str(_ask(stack, "API key", "config", "get", "--json", "vllm_api_key").get("value") or "")


def _state(stack: str) -> list[dict[str, Any]]:
    """Return the fleet's resources in the stack's state, without those that are to be deleted."""
    state = _ask(stack, "state", "stack", "export").get("deployment") or {}
    return [
        item
        for item in state.get("resources") or ()
        if item["type"].startswith("fleet:index:") and not item.get("delete")
    ]


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return (kind, node) of a resource in the state."""
    return item["type"].rpartition(":")[2], item["urn"].rpartition("::")[2]


def _by_kind(state: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for item in state:
        kind, node = _place(item)
        found.setdefault(kind, {})[node] = item.get("outputs") or {}
    return found


def _from_state(resources: Mapping[str, Mapping[str, Mapping[str, Any]]], node: str) -> dict[str, Any] | None:
    """Return what fleet.program.evidence returns of a node, from its resources in the state; None where none serves."""
    serving = resources.get("Serving", {}).get(node)
    if not serving or not serving.get("replicas"):
        return None
    image = serving.get("image") or ""
    built = next((one for one in resources.get("Image", {}).values() if one.get("image") == image), {})
    runs = (
        resources.get(kind, {}).get(node, {}).get("seconds") or {} for kind in ("Host", "Image", "Weights", "Serving")
    )
    return {
        "connection": resources.get("Node", {}).get(node, {}).get("connection") or serving["node"],
        "image": image,
        "commit": built.get("commit") or "",
        "revision": (serving.get("weights") or {}).get("revision") or "",
        "replicas": serving["replicas"],
        "probes": serving.get("verdict"),
        "seconds": {role: taken for run in runs for role, taken in run.items()},
    }


def _failures(state: Sequence[Mapping[str, Any]], unfinished: Sequence[str]) -> dict[str, str]:
    """Return {node: why its last change failed}; an `unfinished` node may wait for a resource that has no error in the state."""
    found = dict.fromkeys(unfinished, "it did not reach the end")
    for item in state:
        if reasons := item.get("initErrors"):
            kind, node = _place(item)
            found[node] = f"{kind}: {str(reasons[0]).splitlines()[0].removeprefix(f'{node}: ')}"
    return found


def _ask(stack: str, what: str, *arguments: str) -> dict[str, Any]:
    """Return the JSON that a command of Pulumi prints about the stack."""
    try:
        answer = subprocess.run(
            ["pulumi", *arguments, "-s", stack], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise errors.FleetError(
            doing=f"read the {what} of stack {stack}",
            seen="no `pulumi` on PATH",
            next='`eval "$(make env)"`, once in each shell',
        ) from None
    if answer.returncode:
        raise errors.FleetError(
            doing=f"read the {what} of stack {stack}",
            seen=(answer.stderr.strip().splitlines() or [f"`pulumi` ended with {answer.returncode}"])[-1],
            next='`pulumi stack ls` shows the stacks; `eval "$(make env)"` says where they are kept',
        )
    found: dict[str, Any] = json.loads(answer.stdout or "{}")
    return found


def replicas(outputs: Outputs) -> list[Replica]:
    """Return all replicas in the stack's outputs, in the order of its nodes."""
    return [
        Replica(f"{node}/{replica['name']}", address.socket_or_port(replica), replica["model"], seen["connection"])
        for node, seen in outputs.get("replicas", {}).items()
        for replica in (seen or {}).get("replicas") or ()
    ]


def choose(outputs: Outputs, name: str) -> list[Replica]:
    """Return the replicas that `name` means: NODE/REPLICA, all of NODE, or all when it is empty."""
    all_ = replicas(outputs)
    chosen = [one for one in all_ if not name or one.name == name or one.name.startswith(f"{name}/")]
    if not chosen:
        raise errors.FleetError(
            doing=f"choose replica {name}", seen="no such replica", wanted=", ".join(one.name for one in all_)
        )
    return chosen


@contextlib.contextmanager
def tunnel(replica: Replica, port: int = 0) -> Iterator[str]:
    """Bring a replica to this machine's loopback, on `port` or a free one; yields its base URL without /v1."""
    with (
        ssh.connect(ssh.Target.from_inputs(replica.connection)) as connection,
        connection.forward(replica.address, local=port) as bound,
    ):
        yield f"http://127.0.0.1:{bound}"
