"""Errors for a node that Ansible lost: no answer, another host key, login refused, machine went down.

Owns these messages. Needs a Target and ssh's output. Called by progress and converge; ssh/handshake.py reports the same failures of our own
connections.
"""

import re

from fleet import errors, ssh
from fleet.ssh import Target, handshake

# Ansible's prefixes, and lines of ssh that hold no reason.
ANSIBLE_PREFIX = re.compile(
    r"^(Task failed: )?(Failed to connect to the host via ssh: |Data could not be sent to remote host .*?over ssh: ?)+"
)
BROKE = "the connection broke"
LASTS = "an SSH connection that lasts until the run ends"
TIMEOUT = 10.0  # seconds to ask a node why it was lost
# Prints systemd's state, its start time (µs after boot) and the uptime (seconds).
ALIVE = "systemctl is-system-running; systemctl show -P UserspaceTimestampMonotonic; cat /proc/uptime"
NOISE = re.compile(
    r"^(Shared connection to .* closed\.|mux_client_\S+: .*|Control socket connect.*|Warning: Permanently .*|@.*)$"
)


def from_ssh(target: Target, doing: str, output: str, next_step: str) -> errors.Unreachable:
    """Return the error that ssh's output means; `next_step` says what the user does then."""
    lower = output.lower()
    if target.bastion and _concerns(target.bastion, output):
        target = target.bastion
    if "host key verification failed" in lower or "identification has changed" in lower:
        fingerprint = re.search(r"SHA256:[A-Za-z0-9+/]+", output)
        key_type, blob = target.pinned()
        return errors.HostKeyMismatch(
            node=target.name,
            doing=doing,
            seen=f"another host key{f': {fingerprint[0]}' if fingerprint else ''}",
            wanted=f"the pinned one: {key_type} {handshake.fingerprint(blob)}",
            next=f"find out which machine answers there; {next_step}",
        )
    if "permission denied" in lower:
        return errors.LoginRefused(
            node=target.name,
            doing=doing,
            seen=f"the login as {target.where} is refused",
            wanted=f"a key that {target.user} on {target.name} accepts, until the run ends",
            next=f"put the key of {target.identity or 'the SSH agent'} back there; {next_step}",
        )
    return _unreachable(target, doing, reason_line(output), next_step)


def explain(target: Target, failure: errors.FleetError, seconds: float, next_step: str) -> errors.FleetError:
    """Return the failure, or a better one: connect to the node once more to find a reason that ssh and Ansible did not report.

    On a node that shuts down, a task can fail in any way: files, services and the interpreter disappear one after the other. `seconds` is
    how long ago that task began: a node that started later went down during the task.
    """
    broke = isinstance(failure, errors.Unreachable)
    if broke and failure.seen != BROKE:
        return failure
    try:
        with ssh.connect(target, timeout=TIMEOUT) as connection:
            shutdown = _went_down(connection.run(ALIVE, timeout=TIMEOUT).stdout, seconds)
            return _unreachable(target, failure.doing, shutdown, next_step) if shutdown else failure
    except (errors.LoginRefused, errors.HostKeyMismatch) as now:
        if not broke:
            return failure
        refused = isinstance(now, errors.LoginRefused)
        output = "Permission denied" if refused else f"Host key verification failed: {now.seen}"
        bastion = target.bastion
        return from_ssh(bastion if bastion and now.node == bastion.name else target, failure.doing, output, next_step)
    except errors.Unreachable as now:
        # The task's own message is only a symptom of the shutdown; the log has it.
        what = BROKE if broke else "the task failed"
        return _unreachable(target, failure.doing, f"{what}, and now: {now.seen}", next_step)
    except errors.CommandFailed:
        return failure  # the node accepts our login and gives no reason


def _went_down(output: str, seconds: float) -> str:
    """Return the sentence for a node that went down less than `seconds` ago, from the output of ALIVE; "" for one that stayed up."""
    state, started, uptime = [*output.split(), "", "", ""][:3]
    if state == "stopping":
        return "the machine is going down"
    if not re.fullmatch(r"[0-9]{1,18}", started) or not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", uptime):
        return ""  # systemd does not answer
    age = float(uptime) - int(started) / 1e6
    return f"the machine went down, and started again {age:.0f} s ago" if age < seconds else ""


def _unreachable(target: Target, doing: str, seen: str, next_step: str) -> errors.Unreachable:
    return errors.Unreachable(
        node=target.name, doing=doing, seen=seen, wanted=LASTS, next=f"{target.login} true; {next_step}"
    )


def _concerns(bastion: Target, output: str) -> bool:
    """Return whether ssh's output is about the bastion and not about the node behind it."""
    return f"{bastion.name} has changed" in output or f"{bastion.user}@{bastion.address}: Permission denied" in output


def reason_line(output: str) -> str:
    """Return the line of ssh's output that gives the reason, BROKE for no output."""
    lines = [ANSIBLE_PREFIX.sub("", line).strip() for line in output.strip().splitlines()]
    reasons = [line for line in lines if line and not NOISE.match(line)]
    return (reasons or [line for line in lines if line] or [BROKE])[-1]
