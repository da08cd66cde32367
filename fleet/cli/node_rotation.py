"""The nodes of a stack in and out of rotation, as they answer now: which one a name means, how many serve, and this in words.

Called by the verbs drain, undrain and show. fleet.managed.rotation asks the nodes.
"""

from collections.abc import Mapping, Sequence

from fleet import errors, ssh
from fleet.cli.stack_outputs import Outputs
from fleet.managed import rotation
from fleet.managed.rotation import Look
from fleet.managed.standing import Standing

Answers = Mapping[str, Look | errors.FleetError]


def split(verb: str, outputs: Outputs, place: str) -> tuple[str, str]:
    """Return node and replica of NODE or NODE/REPLICA, "" for no replica. Raises FleetError for a node that the stack does not have."""
    node, _, replica = place.partition("/")
    if node not in targets(outputs):
        raise errors.FleetError(node=node, doing=verb, seen="no such node", wanted=", ".join(targets(outputs)))
    return node, replica


def targets(outputs: Outputs) -> dict[str, ssh.Target]:
    """Return how to reach each node."""
    connections = {node: (evidence or {}).get("connection") for node, evidence in outputs["replicas"].items()}
    return {node: ssh.Target.from_inputs(connection) for node, connection in connections.items() if connection}


def answer(answers: Answers, node: str, replica: str, verb: str) -> Look:
    """Return how the node serves. Raises FleetError for one that does not answer, and without such a replica or a node proxy."""
    now = answers[node]
    if isinstance(now, errors.FleetError):
        raise now
    if replica and replica not in now.replicas:
        replicas = ", ".join(f"{node}/{name}" for name in now.replicas)
        raise errors.FleetError(node=f"{node}/{replica}", doing=verb, seen="no such replica", wanted=replicas)
    if now.proxy != "answers":
        none = now.proxy == "none"
        raise errors.FleetError(
            node=node,
            doing=verb,
            seen="it has no node proxy" if none else "its node proxy does not answer",
            wanted="a node proxy, which sends requests or does not",
            next="`glm-fleet:gateway` in the stack file, then `pulumi up`"
            if none
            else "systemctl status fleet-proxy there",
        )
    return now


def serving(answers: Answers, node: str = "", replica: str = "") -> list[str]:
    """Return the nodes that serve, and that would still serve without `node`, or without that replica of it."""
    return [
        name
        for name, now in answers.items()
        if isinstance(now, Look)
        and now.standing is Standing.SERVES
        and (name != node or (bool(replica) and any(now.healthy(other) for other in now.replicas if other != replica)))
    ]


def capacity(names: Sequence[str], answers: Answers) -> str:
    """Return `1 of 2 nodes serves`."""
    return f"{len(names)} of {len(answers)} nodes serve{'s' if len(names) == 1 else ''}"


def lines(answers: Answers, stack: str) -> list[str]:
    """Return a line for each drain, each node that gives no answer or that no gateway reaches, and each replica that serves nothing.

    A replica that somebody drained is a drain alone.
    """
    texts = []
    for node, now in answers.items():
        if isinstance(now, errors.FleetError):
            texts.append(f"{node}: {now.doing}: {now.seen}")
            continue
        for replica, words in now.drains.items():
            place = f"{node}/{replica}" if replica else node
            by_turn = (now.marks.get(replica) if replica else now.mark) == rotation.TURN
            ends = f"pulumi up -s {stack}" if by_turn else f"fleet undrain -s {stack} {place}"
            texts.append(f"{place}: {words}; `{ends}` puts it back")
        if now.proxy == "silent":
            texts.append(f"{node}: its node proxy does not answer")
        if not now.reached:
            texts.append(f"{node}: no gateway reaches its node proxy; `journalctl -u fleet-proxy` there says why")
        for replica in now.failing:
            unit, proxy = (now.replicas[replica][part] for part in ("unit", "proxy"))
            state = f"its unit is {unit}, the node proxy finds it {proxy or 'nowhere'}"
            texts.append(f"{node}/{replica}: serves nothing: {state}")
    return texts
