"""Machines that are there already and answer SSH: the default source.

Needs address and host key of each in the stack file. The first connection is checked against that key:
nothing is trusted on first use.
"""

from fleet.plan import settings
from fleet.plan.nodes import Machine, Supply


def supply(nodes: settings.SshNodes) -> Supply:
    """Return the listed machines, each with the defaults that it does not set itself."""
    return Supply({name: Machine(nodes.connection(name)) for name in nodes.machines})
