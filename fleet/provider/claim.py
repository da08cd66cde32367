"""Claim a machine for a stack: run the preflight, then mark it as the stack's; and release it again.

Called by node.py. Needs fleet.preflight and fleet.managed.owner.
"""

from fleet import errors, preflight, ssh
from fleet.managed import owner
from fleet.provider.base import Request
from fleet.provider.properties import Props


def claim(request: Request, connection: ssh.Connection, wants: Props) -> None:
    """Check the machine, report warnings, and mark it. Raises NotReady for failed checks, before any change on the machine."""
    request.report("runs the preflight checks", True)
    requirements = preflight.Requirements.from_plan(connection.target, wants)
    results = preflight.check(preflight.read_facts(connection, requirements), requirements)
    for result in results:
        if result.level == "warning":
            request.report(str(_message(result)), False)
    if failures := [result for result in results if result.level == "error"]:
        first, *others = failures
        raise errors.NotReady(
            node=connection.target.name,
            doing=first.name,
            seen=first.seen,
            wanted=first.wanted,
            next=first.next,
            others=[_message(failure) for failure in others],
        )
    owner.claim(connection, requirements.stack)


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


def _message(result: preflight.CheckResult) -> errors.FleetError:
    return errors.FleetError(doing=result.name, seen=result.seen, wanted=result.wanted, next=result.next)
