"""What ssh says when Ansible loses a node, as the error that a user reads: silent, another host key, our login refused, gone down.

Owns these texts. Needs a Target. Called by narrate and converge; handshake.py has the same failures of our own connections.
"""

import re

from fleet import errors, ssh
from fleet.ssh import Target, handshake

# What Ansible puts before the words of ssh, and what ssh says beside its reason.
ANSIBLE = re.compile(
    r"^(Task failed: )?(Failed to connect to the host via ssh: |Data could not be sent to remote host .*?over ssh: ?)+"
)
BROKE = "the connection broke"
LASTS = "an SSH connection that lasts until the run ends"
AGAIN = 10.0  # seconds for asking a node why it was lost
# What a node is asked: the state of its systemd, and when that started, in µs of the uptime in seconds that comes last.
ALIVE = "systemctl is-system-running; systemctl show -P UserspaceTimestampMonotonic; cat /proc/uptime"
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
    return _unreachable(target, doing, reason(said), goes_on)


def why(target: Target, failure: errors.FleetError, seconds: float, goes_on: str) -> errors.FleetError:
    """Return a failure with the reason that neither ssh nor Ansible has told: the node is asked once more, whose answer tells it.

    A task of a node that goes down fails in any way: its files, its services and its interpreter go one after the other. `seconds` is
    how long ago that task began: a node that started later went down meanwhile.
    """
    broke = isinstance(failure, errors.Unreachable)
    if broke and failure.seen != BROKE:
        return failure
    try:
        with ssh.connect(target, timeout=AGAIN) as connection:
            went = _went_down(connection.run(ALIVE, timeout=AGAIN).stdout, seconds)
            return _unreachable(target, failure.doing, went, goes_on) if went else failure
    except (errors.LoginRefused, errors.HostKeyMismatch) as now:
        if not broke:
            return failure
        refused = isinstance(now, errors.LoginRefused)
        said = "Permission denied" if refused else f"Host key verification failed: {now.seen}"
        bastion = target.bastion
        return error(bastion if bastion and now.node == bastion.name else target, failure.doing, said, goes_on)
    except errors.Unreachable as now:
        # The words of a task on a machine that went down meanwhile are of what went first: they stand in the log.
        what = BROKE if broke else "the task failed"
        return _unreachable(target, failure.doing, f"{what}, and now: {now.seen}", goes_on)
    except errors.CommandFailed:
        return failure  # it lets us in, and says nothing of itself


def _went_down(told: str, seconds: float) -> str:
    """Return what is to be said of a node that told ALIVE, nothing where it stood all the while."""
    state, started, uptime = [*told.split(), "", "", ""][:3]
    if state == "stopping":
        return "the machine is going down"
    if not re.fullmatch(r"[0-9]{1,18}", started) or not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", uptime):
        return ""  # no systemd that answers
    age = float(uptime) - int(started) / 1e6
    return f"the machine went down, and started again {age:.0f} s ago" if age < seconds else ""


def _unreachable(target: Target, doing: str, seen: str, goes_on: str) -> errors.Unreachable:
    return errors.Unreachable(
        node=target.name, doing=doing, seen=seen, wanted=LASTS, next=f"{target.login} true; {goes_on}"
    )


def _of(bastion: Target, said: str) -> bool:
    """Whether ssh's words are about the bastion and not about the node behind it."""
    return f"{bastion.name} has changed" in said or f"{bastion.user}@{bastion.address}: Permission denied" in said


def reason(said: str) -> str:
    """The line of ssh's words that says why."""
    lines = [ANSIBLE.sub("", line).strip() for line in said.strip().splitlines()]
    why = [line for line in lines if line and not BESIDE.match(line)]
    return (why or [line for line in lines if line] or [BROKE])[-1]
