"""The program's request to a source for machines, with the ports that their firewall opens.

Created by fleet.program.machines, used by machines.py of each source.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Opening:
    """A TCP port that the firewall of a pool opens besides SSH: to the networks `sources`, and with `inside` to the pool's own machines.

    `on` names the machines on which it is open; empty for every machine of the pool.
    """

    name: str
    port: int
    on: Sequence[str] = ()
    sources: Sequence[str] = ()
    inside: bool = False


@dataclass(frozen=True)
class Request:
    """The machines to supply.

    `present` has their names in the order of the stack file, `protected` those that Pulumi must not delete. `stack` is the stack's name,
    `fleet` this project's provider, which some sources need for a HostKey. A source that creates a firewall opens `openings` in it.
    """

    present: Sequence[str]
    stack: str
    fleet: pulumi.ProviderResource
    protected: AbstractSet[str]
    openings: Sequence[Opening] = ()
