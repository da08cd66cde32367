"""What the program asks of a source. Needed by machines.py of each source; made by fleet.program.machines."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Request:
    """The machines to supply.

    `present` names them in the order of the stack file, `protected` those that Pulumi must not delete. `stack` is the stack's name, `fleet` the
    provider of this project, which some sources need for a HostKey.
    """

    present: Sequence[str]
    stack: str
    fleet: pulumi.ProviderResource
    protected: AbstractSet[str]
