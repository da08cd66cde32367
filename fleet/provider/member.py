"""The resource Member: runs the role kubernetes, which makes a machine a member of the stack's own cluster.

The first control plane makes the cluster; the others join with a token that it makes for them. Called by the servicer. Needs fleet.managed for
what that control plane is asked.
"""

from collections.abc import Callable, Collection
from typing import Any

from fleet import ssh
from fleet.managed import membership
from fleet.managed.membership import Ticket
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props

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

    The input `control_plane` is the connection of the one that is asked for a token; the first has none.
    """

    # Which control plane is asked changes nothing on a member.
    ignored_inputs: Collection[str] = ("control_plane",)

    def __init__(
        self, *arguments: Any, get_ticket: GetTicket = get_ticket, take_out: TakeOut = take_out, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self._get_ticket, self._take_out = get_ticket, take_out

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
