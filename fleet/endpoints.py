"""A stack as the command line needs it: its outputs and its state as Pulumi tells them, its replicas reached through SSH.

Called by `fleet.cli` and `fleet.verify`. Needs `pulumi` on PATH; opens connections only in `tunnel`.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.machine import ssh

ROOT = Path(__file__).resolve().parents[1]

Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class Replica:
    """One replica: `name` is NODE/REPLICA, `port` its port on the node's loopback, `model` the name it is served under."""

    name: str
    port: int
    model: str
    connection: Mapping[str, Any]


def outputs(stack: str) -> dict[str, Any]:
    """Return the stack's outputs, secrets in clear; FleetError when Pulumi has none to give."""
    found: dict[str, Any] = _ask(stack, "outputs", "stack", "output", "--json", "--show-secrets")
    if not replicas(found):
        raise errors.FleetError(
            doing=f"read the outputs of stack {stack}",
            seen="no replica serves",
            wanted="at least one, made by `pulumi up`",
            next=f"`pulumi up -s {stack}` says what is missing",
        )
    return found


def deployed(stack: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {kind: {node: outputs}} of the fleet's resources in the stack's state (Weights, Serving …); secrets stay encrypted."""
    state = _ask(stack, "state", "stack", "export").get("deployment") or {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for item in state.get("resources") or ():
        if item["type"].startswith("fleet:index:") and not item.get("delete"):
            kind, node = item["type"].rpartition(":")[2], item["urn"].rpartition("::")[2]
            found.setdefault(kind, {})[node] = item.get("outputs") or {}
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


def replicas(found: Outputs) -> list[Replica]:
    """Return all replicas in the stack's outputs, in the order of its nodes."""
    return [
        Replica(f"{node}/{replica['name']}", int(replica["port"]), replica["model"], seen["connection"])
        for node, seen in found.get("replicas", {}).items()
        for replica in (seen or {}).get("replicas") or ()
    ]


def choose(found: Outputs, name: str) -> list[Replica]:
    """Return the replicas that `name` means: NODE/REPLICA, all of NODE, or all when it is empty."""
    all_ = replicas(found)
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
        connection.forward(replica.port, local=port) as bound,
    ):
        yield f"http://127.0.0.1:{bound}"
