"""Machines that are there already and answer SSH: the default source.

Needs address and host key of each in the stack file; `fleet enrol` writes the key after somebody has compared it. The first
connection is checked against it: nothing is trusted on first use.
"""

from collections.abc import Mapping, Sequence

from fleet.plan.nodes import Machine
from fleet.plan.pools import SshNodes


def supply(nodes: SshNodes, present: Sequence[str]) -> Mapping[str, Machine]:
    """Return the machines that are present, each with the defaults that it does not set itself."""
    return {name: Machine(nodes.connection(name), place=nodes.place(name)) for name in present}
