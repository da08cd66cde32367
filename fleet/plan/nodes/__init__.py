"""Where machines come from: one file a source, each with a function `supply`.

Owns the small interface between a source and the rest of the program. Called by `fleet.plan.program`.
A source ends where SSH answers: what is then done on a machine is not its business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from fleet.plan import settings


@dataclass(frozen=True)
class Machine:
    """One machine as the resource Node wants it.

    `inputs` holds address, port, user, identity, host_key, become, gpus, bastion (the same of the machine before it; optional)
    and wait (seconds until it must have answered; optional); each may be a value or an Output.
    `place` says where it stands (rack, zone, internal_address), for those who route requests.
    `resource` is what stands behind the machine, when the source made it: the machine's other resources wait for it,
    and need no clean-up of their own when it is deleted.
    """

    inputs: Mapping[str, Any]
    resource: pulumi.Resource | None = None
    place: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Supply:
    """What a source gives: machines by name, and role variables that only it can know (merged under the stack's own)."""

    machines: Mapping[str, Machine]
    vars: pulumi.Input[Mapping[str, Any]] = field(default_factory=dict)


def supply(judged: settings.Settings, stack: str) -> Supply:
    """Return the machines of the stack's source that are present. A new source is a form in `settings` and one line here."""
    match judged.nodes:
        case settings.SshNodes() as nodes:
            from fleet.plan.nodes import ssh

            return ssh.supply(nodes, judged.present)
        case settings.LabNodes() as nodes:
            from fleet.plan.nodes import lab

            return lab.supply(nodes, judged.present, stack)
