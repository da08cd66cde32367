"""Claim a machine for a stack: run the preflight, then mark it as the stack's; and release it again.

Called by node.py. Needs fleet.preflight and fleet.managed.owner.
"""

from fleet import errors, preflight, ssh
from fleet.managed import owner
from fleet.provider.base import Request
from fleet.provider.properties import Props


def claim(request: Request, connection: ssh.Connection, requirements: Props) -> None:
    """Check the machine, report warnings, and mark it. Raises NotReady for faults, before any change on the machine."""
    request.report("runs the preflight checks", True)
    wanted = preflight.Wanted.from_plan(connection.target, requirements)
    verdicts = preflight.judge(preflight.ask(connection, wanted), wanted)
    for verdict in verdicts:
        if verdict.level == "warning":
            request.report(str(_message(verdict)), False)
    faults = [verdict for verdict in verdicts if verdict.level == "fault"]
    if faults:
        first, *others = faults
        raise errors.NotReady(
            node=connection.target.name,
            doing=first.name,
            seen=first.seen,
            wanted=first.wanted,
            next=first.next,
            others=[_message(fault) for fault in others],
        )
    owner.claim(connection, wanted.stack)


def release(request: Request, target: ssh.Target, stack: str) -> None:
    """Remove the stack's mark. Report a mark that remains: of another stack, or on a machine that does not answer."""
    try:
        with ssh.connect(target) as connection:
            other_owner = owner.release(connection, stack)
    except errors.Unreachable as error:
        request.report(f"remains: {owner.MARKER}, the machine is not reachable: {error.seen}", False)
        return
    if other_owner:
        request.report(f"remains: {owner.MARKER}, of {other_owner.id or 'an owner that it does not name'}", False)


def _message(verdict: preflight.Verdict) -> errors.FleetError:
    return errors.FleetError(doing=verdict.name, seen=verdict.seen, wanted=verdict.wanted, next=verdict.next)
