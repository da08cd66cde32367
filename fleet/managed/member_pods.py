"""Takes a member of the stack's own cluster out of use for pods, and gives it back: the controller's side of on_node_member.py.

Kubernetes decides whether a pod may go: an eviction respects the disruption budgets. Owns the forms of that script's replies. Needs a
connection to a control plane. Called by fleet.provider.member_turns; `fleet drain` on a cluster of others: fleet.cluster.drain.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh
from fleet.managed.membership import ADMIN, MEMBER
from fleet.managed.standing import Standing
from fleet.ssh import script
from fleet.validators import NAME, WORD, Each, Flag, Form, Record, Table, Text

SCRIPT = Path(__file__).with_name("on_node_member.py")
KUBECTL = ("kubectl", f"--kubeconfig={ADMIN}")
# The mark of the role kubernetes on a machine that is between two versions.
UPGRADING = "/etc/kubernetes/fleet/upgrade"
PATIENCE = 300.0  # seconds of one step: each pod is a request of its own
PODS, NODES = 1000, 5000
POD = Text("NAMESPACE/NAME of a pod", r"[a-z0-9.-]{1,253}/[a-z0-9.-]{1,253}")
MEMBERS = Record(
    {
        "nodes": Table(
            NAME,
            Record({"version": WORD, "ready": Flag(), "cordoned": Flag(), "in_turn": Flag(), "plane": Flag()}),
            most=NODES,
        )
    }
)
OURS = Record({"ours": Flag()})
OWNER = Each(Text("a namespace or an uid", r"[A-Za-z0-9.-]{1,253}"), most=2)
EVICTED = Record(
    {
        "left": Each(POD, most=PODS),
        "held": Table(POD, Text(most=1000), most=PODS),
        "bare": Each(POD, most=PODS),
        "owners": Each(OWNER, most=PODS),
    }
)
WAITING = Record({"waiting": Each(POD, most=10 * PODS)})
Owner = tuple[str, str]


@dataclass(frozen=True)
class Member:
    """A member as its cluster has it: `in_turn` is our mark beside its cordon, `plane` whether it is a control plane."""

    version: str
    ready: bool
    cordoned: bool
    in_turn: bool
    plane: bool

    @property
    def standing(self) -> Standing:
        """Whether it takes pods, in the words for nodes that serve."""
        if self.in_turn:
            return Standing.UNFINISHED
        if self.cordoned:
            return Standing.DRAINED
        return Standing.SERVES if self.ready else Standing.BROKEN


@dataclass(frozen=True)
class Evicted:
    """The pods that end, those that are held back and why, those that nobody would make again, the controllers of those that were ready."""

    left: tuple[str, ...]
    held: Mapping[str, str]
    bare: tuple[str, ...]
    owners: frozenset[Owner]


def look(connection: ssh.Connection) -> dict[str, Member]:
    """Return the members of the cluster by name. Raises CommandFailed."""
    nodes = _run(connection, "ask for the members", "look", MEMBERS)["nodes"]
    return {name: Member(**facts) for name, facts in nodes.items()}


def cordon(connection: ssh.Connection, member: str) -> bool:
    """Let a member take no new pods; return False where somebody else has cordoned it, who also ends that. Raises CommandFailed."""
    return bool(_run(connection, f"cordon {member}", "cordon", OURS, member)["ours"])


def evict(connection: ssh.Connection, member: str) -> Evicted:
    """Ask once for the end of the pods that can be elsewhere; return what is left of them. Raises CommandFailed."""
    reply = _run(connection, f"evict the pods of {member}", "evict", EVICTED, member)
    owners = frozenset((owner[0], owner[1]) for owner in reply["owners"] if len(owner) == 2)
    return Evicted(tuple(reply["left"]), reply["held"], tuple(reply["bare"]), owners)


def uncordon(connection: ssh.Connection, member: str) -> bool:
    """Let a member take pods again; return False where our mark is not on it. Raises CommandFailed."""
    return bool(_run(connection, f"uncordon {member}", "uncordon", OURS, member)["ours"])


def waiting(connection: ssh.Connection, member: str, owners: Collection[Owner]) -> list[str]:
    """Return the pods of these controllers, on the member or moved from there, that are not ready. Raises CommandFailed."""
    doing = f"ask for the pods that were on {member}"
    return [*_run(connection, doing, "waiting", WAITING, member, sorted(owners))["waiting"]]


def is_plane(connection: ssh.Connection) -> bool:
    """Return whether the machine is a control plane of a cluster by our role. Raises CommandFailed."""
    return connection.run(f"test -s {MEMBER} && test -s {ADMIN}").rc == 0


def is_upgrading(connection: ssh.Connection) -> bool:
    """Return whether the machine is between two versions. Raises CommandFailed."""
    return connection.run(f"test -e {UPGRADING}").rc == 0


def _run(
    connection: ssh.Connection, doing: str, do: str, form: Form, member: str = "", owners: Collection[Any] = ()
) -> Any:
    arguments = {"kubectl": list(KUBECTL), "do": do, "node": member, "owners": [list(owner) for owner in owners]}
    try:
        return script.run_script(connection, SCRIPT.read_text(), arguments, form, PATIENCE)
    except script.ScriptFailed as failure:
        raise errors.CommandFailed(
            node=connection.target.name,
            doing=doing,
            seen=failure.seen,
            wanted=failure.wanted or "an API server that answers",
            next=f"`{connection.target.login} kubectl --kubeconfig={ADMIN} get nodes`",
        ) from None
