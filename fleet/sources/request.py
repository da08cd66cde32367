"""The program's request to a source for machines. Created by fleet.program.machines, used by machines.py of each source."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Request:
    """The machines to supply.

    `present` has their names in the order of the stack file, `protected` those that Pulumi must not delete. `stack` is the stack's name,
    `fleet` this project's provider, which some sources need for a HostKey.
    """

    present: Sequence[str]
    stack: str
    fleet: pulumi.ProviderResource
    protected: AbstractSet[str]
