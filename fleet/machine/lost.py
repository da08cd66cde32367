"""What ssh says when Ansible loses a node, as the error that a user reads: silent, another host key, our login refused.

Owns these texts. Needs a Target. Called by narrate and converge; handshake.py has the same failures of our own connections.
"""

import re

from fleet import errors
from fleet.machine import handshake, ssh
from fleet.machine.ssh import Target

# What Ansible puts before the words of ssh, and what ssh says beside its reason.
ANSIBLE = re.compile(
    r"^(Task failed: )?(Failed to connect to the host via ssh: |Data could not be sent to remote host .*?over ssh: ?)+"
)
BROKE = "the connection broke"
AGAIN = 10.0  # seconds for asking a node why it was lost
BESIDE = re.compile(
    r"^(Shared connection to .* closed\.|mux_client_\S+: .*|Control socket connect.*|Warning: Permanently .*|@.*)$"
)


def error(target: Target, doing: str, said: str, goes_on: str) -> errors.Unreachable:
    """Return the error for what ssh said; `goes_on` are the words for what the next run does."""
    told = said.lower()
    if target.bastion and _of(target.bastion, said):
        target = target.bastion
    if "host key verification failed" in told or "identification has changed" in told:
        seen = re.search(r"SHA256:[A-Za-z0-9+/]+", said)
        key_type, blob = target.pinned()
        return errors.HostKeyMismatch(
            node=target.name,
            doing=doing,
            seen=f"another host key{f': {seen[0]}' if seen else ''}",
            wanted=f"the pinned one: {key_type} {handshake.fingerprint(blob)}",
            next=f"find out which machine answers there; {goes_on}",
        )
    if "permission denied" in told:
        return errors.LoginRefused(
            node=target.name,
            doing=doing,
            seen=f"the login as {target.where} is refused",
            wanted=f"a key that {target.user} on {target.name} accepts, until the run ends",
            next=f"put the key of {target.identity or 'the SSH agent'} back there; {goes_on}",
        )
    return errors.Unreachable(
        node=target.name,
        doing=doing,
        seen=reason(said),
        wanted="an SSH connection that lasts until the run ends",
        next=f"{target.login} true; {goes_on}",
    )


def why(target: Target, failure: errors.FleetError, goes_on: str) -> errors.FleetError:
    """Return a failure with the reason for which ssh gave none: the node is asked once more, whose answer tells it."""
    if not isinstance(failure, errors.Unreachable) or failure.seen != BROKE:
        return failure
    try:
        with ssh.connect(target, timeout=AGAIN):
            return failure
    except (errors.LoginRefused, errors.HostKeyMismatch) as now:
        refused = isinstance(now, errors.LoginRefused)
        said = "Permission denied" if refused else f"Host key verification failed: {now.seen}"
        bastion = target.bastion
        return error(bastion if bastion and now.node == bastion.name else target, failure.doing, said, goes_on)
    except errors.Unreachable as now:
        failure.seen = f"{BROKE}, and now: {now.seen}"
        return failure


def _of(bastion: Target, said: str) -> bool:
    """Whether ssh's words are about the bastion and not about the node behind it."""
    return f"{bastion.name} has changed" in said or f"{bastion.user}@{bastion.address}: Permission denied" in said


def reason(said: str) -> str:
    """The line of ssh's words that says why."""
    lines = [ANSIBLE.sub("", line).strip() for line in said.strip().splitlines()]
    why = [line for line in lines if line and not BESIDE.match(line)]
    return (why or [line for line in lines if line] or [BROKE])[-1]
