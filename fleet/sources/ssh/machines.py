"""Supplies existing machines that answer SSH: the default source.

Needs address and host key of each in the stack file; `fleet enrol` writes the key after a person has compared it. Already the first
connection is verified against it. Called by fleet.program.machines for stacks whose source is `ssh`.
"""

from collections.abc import Mapping

from fleet.resources import Machine
from fleet.sources.request import Request
from fleet.sources.ssh.form import Nodes


def supply(nodes: Nodes, request: Request) -> Mapping[str, Machine]:
    """Return the present machines, defaults filled in."""
    return {name: Machine(nodes.connection(name), place=nodes.place(name)) for name in request.present}
