"""What a control plane of a stack's own cluster is asked over SSH: a token for a machine that joins, a kubeconfig, to take a member out.

Owns the forms of the replies. Needs a connection to a machine with the role kubernetes. Called by fleet.provider and `fleet kubeconfig`.
"""

import base64
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from fleet import errors, printable, ssh
from fleet.ssh import reply

ADMIN = "/etc/kubernetes/admin.conf"
MEMBER = "/etc/kubernetes/fleet/member"
# Who may do everything in the cluster, by kubeadm's own binding of this group.
GROUP = "kubeadm:cluster-admins"
TOKEN_SECONDS = 1200  # from the token's making to the end of a join: the machine installs its packages meanwhile
PATIENCE = 180  # seconds of one command of kubeadm, which asks the API server
DRAIN = 600  # seconds until the pods of a member have ended
TOKEN, KEY = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}"), re.compile(r"[0-9a-f]{64}")
PEM = re.compile(r"-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n]+-----END [A-Z ]+-----\n")


@dataclass(frozen=True)
class Ticket:
    """What lets one machine join: a token of minutes and, for a control plane, the key of the certificates in the cluster."""

    token: str
    key: str = ""


@dataclass(frozen=True)
class Login:
    """A client's certificate and its key, in PEM."""

    certificate: str
    key: str


def is_member(connection: ssh.Connection) -> bool:
    """Return whether the machine is a member of a cluster by our role. Raises CommandFailed."""
    return connection.run(f"test -s {MEMBER}").rc == 0


def ticket(connection: ssh.Connection, member: str, control_plane: bool) -> Ticket:
    """Return what lets a machine join, from a control plane. Raises CommandFailed."""
    doing = f"make a token with which {member} joins"
    about = f"{member} joins, by glm-fleet"
    made = ("kubeadm", "token", "create", f"--ttl={TOKEN_SECONDS}s", f"--description={about}")
    token = _only(connection, made, TOKEN, doing, "a token")
    if not control_plane:
        return Ticket(token)
    uploaded = ("kubeadm", "init", "phase", "upload-certs", "--upload-certs")
    return Ticket(
        token, _only(connection, uploaded, KEY, f"share the certificates with {member}", "a key of 64 digits")
    )


def login(connection: ssh.Connection, user: str, days: int) -> Login:
    """Return a new login of an administrator, which ends by itself. Raises CommandFailed."""
    doing = f"make a kubeconfig for {user}"
    made = (
        "kubeadm",
        "kubeconfig",
        "user",
        f"--client-name={user}",
        f"--org={GROUP}",
        f"--validity-period={days * 24}h",
    )
    text = _run(connection, made, doing)
    parts = [
        re.search(rf"^ +client-{name}-data: ([A-Za-z0-9+/=]+)$", text, re.MULTILINE) for name in ("certificate", "key")
    ]
    pems = [base64.b64decode(part[1]).decode("ascii", "replace") if part else "" for part in parts]
    if not all(PEM.fullmatch(pem) for pem in pems):
        raise _failed(connection, doing, "it has no certificate, or no key", "both in PEM, as kubeadm prints them")
    return Login(*pems)


def take_out(connection: ssh.Connection, member: str) -> None:
    """Let the pods of a member end as its disruption budgets allow, and remove its Node. Raises CommandFailed."""
    drained = ("drain", member, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={DRAIN}s")
    for verb in (drained, ("delete", "node", member)):
        command = ("kubectl", f"--kubeconfig={ADMIN}", *verb, *(("--ignore-not-found",) if verb[0] == "delete" else ()))
        result = connection.run(shlex.join(command), timeout=DRAIN + PATIENCE)
        if result.rc and "(NotFound)" not in result.stderr:
            seen = printable.short(reply.last_line(result.stderr, result.rc), 300)
            next_step = "if a model of another stack still runs there, take that one down first; then again"
            raise errors.CommandFailed(
                node=connection.target.name,
                doing=f"take {member} out of the cluster",
                seen=seen,
                wanted="a member without pods of users",
                next=next_step,
            )


def _only(connection: ssh.Connection, command: Sequence[str], pattern: re.Pattern[str], doing: str, wanted: str) -> str:
    """Return the last line of a command, which must match the pattern, and is a secret. Raises CommandFailed."""
    lines = _run(connection, command, doing).strip().splitlines()
    if not lines or not pattern.fullmatch(lines[-1]):
        raise _failed(connection, doing, "another text", f"{wanted} in the last line")
    return lines[-1]


def _run(connection: ssh.Connection, command: Sequence[str], doing: str) -> str:
    result = connection.run(f"KUBECONFIG={ADMIN} {shlex.join(command)}", timeout=PATIENCE)
    if result.rc:
        seen = printable.short(reply.last_line(result.stderr, result.rc), 300)
        raise _failed(connection, doing, seen, "a control plane that answers")
    return result.stdout


def _failed(connection: ssh.Connection, doing: str, seen: str, wanted: str) -> errors.CommandFailed:
    look = f"{connection.target.login} kubectl --kubeconfig={ADMIN} get nodes"
    return errors.CommandFailed(node=connection.target.name, doing=doing, seen=seen, wanted=wanted, next=f"`{look}`")
