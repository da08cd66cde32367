"""Put a node back to what served before a failed change: its kept files, its replicas, and the probes of the old inputs.

Called by change_in_turns.py. Needs fleet.managed.snapshot, and Serving for the probes.
"""

from fleet import errors, ssh
from fleet.managed import snapshot
from fleet.provider import outputs, teardown
from fleet.provider.base import InitFailed, Request
from fleet.provider.properties import Props
from fleet.provider.serving import Serving

# Seconds for systemd beside the limits of a start.
MARGIN = 60


def keep(connection: ssh.Connection, old: Props, served: bool) -> snapshot.Taken:
    """Keep the files of the last run of Serving, with its replicas; the node can go back to what is kept. Raises CommandFailed.

    What a node that did not serve (`served`) has is not kept: there it can go back only to what an unfinished change has kept.
    """
    things = (old.get("managed") or {}).get("declared") or {}
    return snapshot.take(connection, things, old.get("replicas") or (), served)


def go_back(
    serving: Serving,
    request: Request,
    connection: ssh.Connection,
    old_inputs: Props,
    failed: InitFailed,
    only: str = "",
    restored: bool = False,
) -> None:
    """Restore what served before, or `only` one replica of it, and probe it with the old inputs.

    `restored`: the files are as before already, but the replica runs with others. Raises FleetError if it does not serve as before.
    """
    request.report(f"{only or 'it'} goes back to what served before", False)
    limits = [teardown.variable(old_inputs, "vllm", f"vllm_{name}start_timeout") for name in ("", "cold_")]
    things = (failed.properties.get("managed") or {}).get("declared") or {}
    replicas = snapshot.restore(
        connection,
        things,
        max(map(float, limits)) + MARGIN,
        outputs.REPLICA_LIST,
        lambda text: request.report(text, True),
        request.cancelled,
        [only] if only else [],
        restored,
    )
    replicas = [replica for replica in replicas if only in ("", replica["name"])]
    probed = serving.probe(request, old_inputs, replicas)
    if probed.failures:
        raise errors.ProbeFailed(
            node=request.name,
            doing="probe what served before",
            seen=probed.failures[0],
            wanted="the answers of before",
            next="the node stays out of rotation; `pulumi up` changes it again",
        )


def went_back(error: errors.FleetError) -> errors.FleetError:
    """Return the error of the failed change with the words that the node serves the old state again."""
    return type(error)(
        node=error.node,
        doing=error.doing,
        seen=f"{error.seen}\n{error.node} went back, and serves what it served before",
        wanted=error.wanted,
        next="\n".join(
            filter(None, [error.next, "the state keeps the old inputs: `pulumi preview` shows the same change again"])
        ),
    )


def did_not_go_back(error: errors.FleetError, why: errors.FleetError) -> errors.FleetError:
    """Return the error of the failed change with the reason why the node does not serve the old state."""
    return type(error)(
        node=error.node,
        doing=error.doing,
        seen=f"{error.seen}\nand it could not go back: {why.doing}: {why.seen}; it stays out of rotation",
        wanted=error.wanted,
        next="\n".join(filter(None, [error.next, why.next])),
    )
