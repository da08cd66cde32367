"""The resource Member: runs the role kubernetes, which makes a machine a member of the stack's own cluster.

The first control plane makes the cluster; the others join with a token that it makes for them. Called by the servicer. Needs fleet.managed for
what that control plane is asked.
"""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fleet import certificates, ssh
from fleet.impact.effects import Reason
from fleet.impact.role_effects import Level
from fleet.managed import membership
from fleet.managed.membership import Ticket
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props

# What starts again on a control plane whose certificates are renewed; its pods of users run on.
PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
GetTicket = Callable[
    [ssh.Target, ssh.Target, bool], Ticket | None
]  # of the control plane and the machine, whether that is one, too
TakeOut = Callable[[ssh.Target, str], None]


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
        """Return them with `ends` UNKNOWN where certificates are renewed."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        return planned | ({"ends": UNKNOWN} if old and self.due(old) else {})

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


def _day(text: str) -> datetime.date | None:
    """Return a day that a machine has sent; None for a text that is none in the calendar."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
