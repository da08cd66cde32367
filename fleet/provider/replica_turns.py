"""Change the replicas of a node one after the other while the others serve: drain one at the node proxy, change it, prove it, put it back.

Called by change_in_turns.py in a node's turn, for a change that restarts replicas and does nothing else.
"""

from collections.abc import Sequence

from fleet import errors, ssh
from fleet.managed import rotation
from fleet.managed.rotation import OPERATOR, TURN, Look
from fleet.provider import rollback
from fleet.provider.base import InitFailed, Request
from fleet.provider.properties import Props
from fleet.provider.serving import Serving


def order(seen: Look, names: Sequence[str]) -> list[str]:
    """Return the replicas in the order of their change, first one that an earlier run left drained.

    Return [] where the node must leave rotation instead: no other replica would serve meanwhile, or the proxy cannot drain one alone.
    """
    left = [name for name in names if seen.marks.get(name) == TURN]
    others = [name for name in seen.replicas if name not in left]
    if seen.proxy != "answers" or seen.mark or seen.draining or OPERATOR in seen.marks.values():
        return []
    if len(seen.replicas) < 2 or len(left) > 1 or not {*names} <= {*seen.replicas}:
        return []
    if not all(seen.replicas[name]["proxy"] and seen.healthy(name) for name in others):
        return []
    return [*left, *(name for name in names if name not in left)]


def drain(request: Request, target: ssh.Target, seconds: float, replica: str = "") -> None:
    """Take the node, or one replica, out of rotation for `seconds` at most, and report what that bound cuts. Raises FleetError."""
    with ssh.connect(target) as connection:
        if rotation.look(connection).proxy == "none":
            return
        note, where = (lambda text: request.report(text, True)), f"{replica}: " if replica else ""
        drained = rotation.drain(connection, TURN, seconds, note, request.cancelled, replica)
    if drained.silent:
        request.warn(
            f"{', '.join(drained.silent)} did not ask whether {target.name} is ready, and may still send to it"
        )
    if drained.running:
        requests = f"{drained.running} request{'' if drained.running == 1 else 's'}"
        request.warn(f"{where}{requests} still ran after {seconds:g} s (`drain` of glm-fleet:change): they are cut")


class ReplicaTurns:
    """One change of some replicas of a node, in the order of `names`; a drain takes `seconds` at most."""

    def __init__(
        self, serving: Serving, request: Request, target: ssh.Target, names: Sequence[str], seconds: float
    ) -> None:
        self._serving, self._request, self._target = serving, request, target
        self._names, self._seconds = names, seconds
        self._changed: dict[str, None] = {}  # the replicas that may run with the new files

    def continues(self) -> None:
        """Count every replica as changed: an unfinished run has begun this change."""
        self._changed = dict.fromkeys(self._names)

    def change(self, inputs: Props, old: Props) -> Props:
        """Change one replica after the other; return the properties. Raises InitFailed, and FleetError before anything has changed."""
        properties, passed, total = old, 0, 0
        for number, name in enumerate(self._names, 1):
            try:
                drain(self._request, self._target, self._seconds, name)
            except errors.FleetError as error:
                if number == 1:
                    raise
                raise InitFailed(properties, error) from error
            self._changed[name] = None
            properties = self._serving.change(self._request, inputs, properties, (name,))
            verdict = properties["verdict"]
            passed, total = passed + verdict["passed"], total + verdict["total"]
            properties["verdict"] = {**verdict, "passed": passed, "total": total}
            try:
                self._put_back(name)
            except errors.FleetError as error:
                raise InitFailed(properties, error) from error
            self._request.report(f"{name} serves the new state: {number} of {len(self._names)} replicas", False)
        return properties

    def go_back(self, old_inputs: Props, failed: InitFailed) -> None:
        """Put each changed replica back to what served before, those that do not serve first. Raises FleetError."""
        with ssh.connect(self._target) as connection:
            seen = rotation.look(connection)
        serving = [name for name in self._changed if name in seen.replicas and seen.healthy(name)]
        names = [*(name for name in self._changed if name not in serving), *serving]
        for name in names:
            drain(self._request, self._target, self._seconds, name)
            with ssh.connect(self._target) as connection:
                restored = name != names[0]
                rollback.go_back(self._serving, self._request, connection, old_inputs, failed, name, restored)
            self._put_back(name)

    def _put_back(self, name: str) -> None:
        with ssh.connect(self._target) as connection:
            rotation.undrain(connection, TURN, self._request.cancelled, name)
