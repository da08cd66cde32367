"""Weights from neighbours as inputs of the resource Weights: which machines share them, whom each knows, where each serves them.

Pure: settings, variables and machines in. Called by `fleet.program` and openings.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from fleet.program import gateway
from fleet.resources import Machine
from fleet.sdk_patches import failure_isolation
from fleet.stack import settings

# So many nodes take the files from the hub, for all; a node of a larger fleet knows these, and so many that follow it.
FIRST, AFTER = 8, 8

Variables = Mapping[str, Mapping[str, Any]]  # of the roles, by machine, with their defaults


def group(stack: settings.Settings, variables: Variables, name: str) -> list[str]:
    """Return the machines that share the weights of one, this one, too; none in a stack without a gateway, or where it is alone."""
    own = _model(variables, name)
    if stack.gateway is None or name not in stack.serving or not own:
        return []
    names = [other for other in stack.serving if _model(variables, other) == own]
    return names if len(names) > 1 else []


def _model(variables: Variables, name: str) -> tuple[str, str] | None:
    """Return the model of a machine, None where it shares nothing."""
    own = variables[name]
    return (own["weights_repository"], own["weights_revision"]) if own["weights_from_neighbours"] else None


def known(names: Sequence[str], name: str) -> dict[str, bool]:
    """Return the machines that one knows of its group, itself too, each with whether it takes files from the hub for all."""
    if len(names) <= FIRST + AFTER:
        return dict.fromkeys(names, True)
    at = names.index(name)
    ring = [*names[at:], *names[:at]][: AFTER + 1]
    return {one: one in names[:FIRST] for one in dict.fromkeys([*names[:FIRST], *ring])}


def variables_of(names: Sequence[str], machines: Mapping[str, Machine], name: str) -> dict[str, pulumi.Input[Any]]:
    """Return the role variables that only the program sets; none where the machine shares nothing."""
    if not names:
        return {}
    others = [machines[one] for one in names]
    return {"weights_name": name, "weights_address": gateway.listens(machines[name], others)}


def neighbours(
    names: Sequence[str], machines: Mapping[str, Machine], variables: Variables, name: str
) -> list[pulumi.Input[Any]]:
    """Return the machines that one knows. One whose address failed is left out, and fails no other machine."""
    others = [machines[one] for one in names]
    return [
        _place(one, gateway.reaches(machines[name], machines[one], others), int(variables[one]["weights_port"]), first)
        for one, first in known(names, name).items()
    ]


def _place(name: str, address: pulumi.Input[str], port: int, first: bool) -> pulumi.Input[Any]:
    place = {"name": name, "port": port, "first": first}
    if isinstance(address, pulumi.Output):
        return failure_isolation.together(lambda values: {**place, "address": values[0]}, address)
    return {**place, "address": address}
