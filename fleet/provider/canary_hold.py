"""The hold of a canary: it must stay healthy under clients' requests before the other nodes are changed.

Needs a connection to the node. Called by change_in_turns.py, once the canary is in rotation again.
"""

from collections.abc import Sequence

from fleet import errors, ssh
from fleet.managed import rotation
from fleet.provider.base import InitFailed, Request
from fleet.provider.properties import Props
from fleet.provider.turns import Change


def hold(change: Change, request: Request, connection: ssh.Connection, properties: Props | None) -> str:
    """Watch the canary under clients' requests. Return why its verdict is inconclusive, "" if it has passed.

    Raises InitFailed for one that dies, with the properties of its Serving.
    """
    if not change.canary or not change.hold:
        return ""
    requests = 0
    start: int | None = None
    try:
        for seen in rotation.watch(connection, change.hold, request.cancelled):
            start = seen.requests if start is None else start
            requests = max(requests, seen.requests - start)
            if seen.failing:
                raise InitFailed(properties or {}, _died(connection.target, seen.failing, change.hold))
            request.report(f"canary: holds {change.hold:g} s, {requests} requests so far", True)
    except errors.Unreachable as error:
        return f"is inconclusive: {error.seen} in its hold"
    if requests < change.requests:
        wanted = f"wanted {change.requests} (`requests` of glm-fleet:change)"
        return f"is inconclusive: it got {requests} requests in its hold of {change.hold:g} s, {wanted}"
    request.report(f"canary: held {change.hold:g} s, {requests} requests", False)
    return ""


def _died(target: ssh.Target, failing: Sequence[str], seconds: float) -> errors.ProbeFailed:
    return errors.ProbeFailed(
        node=target.name,
        doing="hold of the canary",
        seen=f"{', '.join(failing)} passed the probes and became unhealthy under clients' requests",
        wanted=f"healthy replicas for {seconds:g} s (`hold` of glm-fleet:change)",
        next=f"{target.login} journalctl -u {failing[0]} has its last lines",
    )
