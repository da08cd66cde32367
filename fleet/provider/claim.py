"""Taking a machine for a stack: looked at before anything on it is touched, then marked as the stack's own; and given back.

Called by node.py, with the connection that is open there. Needs fleet.preflight, fleet.managed.owner.
"""

from fleet import errors, preflight, ssh
from fleet.managed import owner
from fleet.provider.base import Request
from fleet.provider.properties import Props


def take(request: Request, connection: ssh.Connection, wants: Props) -> None:
    """Look, say what is only a warning, and mark the machine. NotReady where something stops the road there: then it is untouched."""
    request.say("looks before anything is touched", True)
    requirements = preflight.Requirements.from_plan(connection.target, wants)
    results = preflight.check(preflight.read_facts(connection, requirements), requirements)
    for one in results:
        if one.level == "warning":
            request.say(str(_message(one)), False)
    if stopping := [one for one in results if one.level == "error"]:
        first, *others = stopping
        raise errors.NotReady(
            node=connection.target.name,
            doing=first.name,
            seen=first.seen,
            wanted=first.wanted,
            next=first.next,
            others=[_message(one) for one in others],
        )
    owner.claim(connection, requirements.stack)


def give_back(request: Request, target: ssh.Target, stack: str) -> None:
    """Take the mark off where it is the stack's. A machine that does not answer, or another one at its place, keeps what it has."""
    try:
        with ssh.connect(target) as connection:
            theirs = owner.release(connection, stack)
    except errors.Unreachable as error:
        request.say(f"stays: {owner.MARKER}, where it is: {error.seen}", False)
        return
    if theirs:
        request.say(f"stays: {owner.MARKER}, of {theirs.id or 'nobody that it names'}", False)


def _message(result: preflight.CheckResult) -> errors.FleetError:
    return errors.FleetError(doing=result.name, seen=result.seen, wanted=result.wanted, next=result.next)
