"""The resource Member: runs the role kubernetes, which makes a machine a member of the stack's own cluster.

The first control plane makes the cluster; the others join with a token that it makes for them. Another version upgrades a member, in its turn
(member_turns.py). Called by the servicer. Needs fleet.managed for what that control plane is asked.
"""

import datetime
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fleet import certificates, errors, ssh
from fleet.impact.effects import Effect, Reason
from fleet.impact.role_effects import Level, read_statement
from fleet.managed import membership
from fleet.managed.member_pods import Member as State
from fleet.managed.membership import Ticket
from fleet.provider.base import ROOT, Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props

# What starts again on a control plane whose certificates are renewed; its pods of users run on.
PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
GetTicket = Callable[
    [ssh.Target, ssh.Target, bool], Ticket | None
]  # of the control plane and the machine, whether that is one, too
TakeOut = Callable[[ssh.Target, str], None]
VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
MOVES = "pods move to other nodes"


def get_ticket(control_plane: ssh.Target, machine: ssh.Target, joins_as_one: bool) -> Ticket | None:
    """Return what lets a machine join; None for one that is a member. Raises FleetError."""
    with ssh.connect(machine) as connection:
        if membership.is_member(connection):
            return None
    with ssh.connect(control_plane) as connection:
        return membership.ticket(connection, machine.name, joins_as_one)


def take_out(control_plane: ssh.Target, member: str) -> None:
    """Take a member out of the cluster. Raises FleetError."""
    with ssh.connect(control_plane) as connection:
        membership.take_out(connection, member)


class Member(Playbook):
    """A machine as a member. `authority` is the certificate by which the cluster is known; its key never leaves the control planes.

    The input `control_plane` is the connection of the one that is asked for a token; the first has none. `ends` is the day on which the first
    certificate of a control plane ends, "" for a worker, whose kubelet renews its own: an update renews those that have 30 days left.
    """

    # Which control plane is asked changes nothing on a member.
    ignored_inputs: Collection[str] = ("control_plane",)

    def __init__(
        self, *arguments: Any, get_ticket: GetTicket = get_ticket, take_out: TakeOut = take_out, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self._get_ticket, self._take_out = get_ticket, take_out

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return the reason to renew the certificates of a control plane that end soon."""
        day = _day(str(properties.get("ends") or ""))
        reason = certificates.reason_to_renew(day, certificates.now()) if day else ""
        return {"ends": reason} if reason else {}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them with the wanted version, and `ends` UNKNOWN where certificates are renewed, as each upgrade does."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        if not old:
            return planned
        renews = self.due(old) or (old.get("ends") and self.upgrades(inputs, old))
        return planned | {"version": wanted_version(inputs)} | ({"ends": UNKNOWN} if renews else {})

    def upgrades(self, inputs: Props, old: Props) -> bool:
        """Return whether an update upgrades the member, or ends an upgrade that was begun and given up. False for one that never joined."""
        known = bool(old.get("version")) and isinstance(inputs.get("vars"), Mapping)
        return known and {str(old["version"]), wanted_version(old)} != {wanted_version(inputs)}

    def refuse(self, inputs: Props, old: Props) -> None:
        """Raise NotReady for a way down, and for more than one minor version at once. The role judges what is installed."""
        has, wanted = str(old["version"]), wanted_version(inputs)
        before, after = _numbers(has), _numbers(wanted)
        if not before or not after or (after >= before and after[1] - before[1] <= 1):
            return
        newest = f"the newest {before[0]}.{before[1] + 1}"
        back = after < before
        raise errors.NotReady(
            node=str(inputs["vars"].get("kubernetes_name") or ""),
            doing="upgrade Kubernetes",
            seen=f"it has {has}, and kubernetes_version is {wanted}",
            wanted="no earlier version: kubeadm takes no way back" if back else f"{newest} before: kubeadm skips none",
            next=f"set kubernetes_version to {f'{has}, or to a later patch' if back else newest}; then `pulumi up`",
        )

    def check_skew(self, inputs: Props, members: Mapping[str, State]) -> None:
        """Raise NotReady for a worker while a control plane is behind the wanted version: no kubelet is later than its API server."""
        variables, wanted = inputs["vars"], wanted_version(inputs)
        after = _numbers(wanted)
        planes = {name: state.version for name, state in members.items() if state.plane}
        behind = {name: version for name, version in planes.items() if (_numbers(version) or after) < after}
        if behind and variables["kubernetes_part"] == "worker":
            raise errors.NotReady(
                node=str(variables["kubernetes_name"]),
                doing="upgrade Kubernetes",
                seen=", ".join(f"{name} has {version}" for name, version in sorted(behind.items())),
                wanted=f"v{wanted} on each control plane before a worker: no kubelet is later than its API server",
                next=f"read what is said about {min(behind)}; `pulumi up` then continues with it",
            )

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return what the roles state; an upgrade includes all of it. Raises NotReady for one that kubeadm does not do."""
        predicted = super().effects(old_inputs, inputs, old)
        if not self.upgrades(inputs, old) or predicted[0].level == "recreate":
            return predicted
        self.refuse(inputs, old)
        because = dict.fromkeys(reason for effect in predicted for reason in effect.because)
        has, wanted = old["version"], wanted_version(inputs)
        what = f"Kubernetes {has} to {wanted}" if has != wanted else f"Kubernetes, which stays at {has}"
        return [Effect("upgrade", (what,), tuple(because), manner=MOVES)]

    def reasons(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[Reason]:
        """Return the restart of a control plane whose certificates are renewed."""
        return [Reason(Level("restart"), PLANE, because) for because in self.due(old).values()]

    def environment(self, properties: Props) -> dict[str, str]:
        """Return the token of this run, which ends within minutes; nothing for a machine that is a member. Raises FleetError."""
        if not properties.get("control_plane"):
            return {}
        target = ssh.Target.from_inputs(properties["control_plane"])
        joins_as_one = properties["vars"]["kubernetes_part"] != "worker"
        ticket = self._get_ticket(target, ssh.Target.from_inputs(properties["node"]), joins_as_one)
        if ticket is None:
            return {}
        key = {"KUBERNETES_CERTIFICATE_KEY": ticket.key} if ticket.key else {}
        return {"KUBERNETES_JOIN_TOKEN": ticket.token, **key}

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the role; the machine is ready in the cluster then. Raises InitFailed."""
        outputs = super().apply(request, inputs, old)
        request.report(f"a {outputs['part']} at {outputs['version']}, ready", False)
        return outputs

    def delete(self, request: Request, properties: Props) -> None:
        """Take the member out of the cluster, then remove what the role has put there. The first is the cluster's end."""
        if properties.get("control_plane") and properties.get("part"):
            self._take_out(ssh.Target.from_inputs(properties["control_plane"]), request.name)
        super().delete(request, properties)


def wanted_version(properties: Props) -> str:
    """Return the version of Kubernetes that the inputs or the state name, by default the role's."""
    variables, name = properties.get("vars"), "kubernetes_version"
    named = variables.get(name) if isinstance(variables, Mapping) else None
    return str(named or read_statement(ROOT / "roles", "kubernetes").defaults[name])


def _numbers(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version; () for another text, as a machine may send."""
    match = VERSION.fullmatch(version)
    return tuple(map(int, match.groups())) if match else ()


def _day(text: str) -> datetime.date | None:
    """Return a day that a machine has sent; None for a text that is none in the calendar."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
