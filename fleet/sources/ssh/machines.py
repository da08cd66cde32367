"""Machines that are there already and answer SSH: the default source.

Needs address and host key of each in the stack file; `fleet enrol` writes the key after somebody has compared it. The first
connection is checked against it: nothing is trusted on first use.
"""

from collections.abc import Mapping

from fleet.resources import Machine
from fleet.sources.request import Request
from fleet.sources.ssh.form import Nodes


def supply(nodes: Nodes, request: Request) -> Mapping[str, Machine]:
    """Return the machines that are present, each with the defaults that it does not set itself."""
    return {name: Machine(nodes.connection(name), place=nodes.place(name)) for name in request.present}
