"""Lets the sources that a stack file names declare their machines. Imports only those sources. Called by `fleet.program`.

A source's part ends when SSH answers; it changes nothing on a machine after that.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping

import pulumi

from fleet import errors
from fleet.program import openings
from fleet.resources import Machine
from fleet.sources.request import Request
from fleet.stack import settings


def supply(
    stack: settings.Settings, variables: openings.Variables, name: str, fleet: pulumi.ProviderResource
) -> Mapping[str, Machine]:
    """Return the present machines by name, in the order of the stack file; `name` is the stack's. Raises FleetError: no SDK."""
    machines: dict[str, Machine] = {}
    for pool in stack.nodes:
        protected = {machine for machine in pool.present if stack.protected(machine)}
        with sdk(f"source {pool.source}", pool.SDK, pool.source):
            source = importlib.import_module(f"fleet.sources.{pool.source}.machines")
        opened = openings.of_pool(stack, variables, pool)
        machines |= source.supply(pool, Request(pool.present, name, fleet, protected, opened))
    return machines


@contextlib.contextmanager
def sdk(node: str, package: str, lock: str) -> Iterator[None]:
    """Raise FleetError for a missing SDK: only stacks that use it have its package installed, from requirements/LOCK.txt."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name != package.replace("-", "_"):
            raise
        raise errors.FleetError(
            node=node,
            doing="import its SDK",
            seen=f"the Python package {package} is not installed",
            wanted=f"the packages of requirements/{lock}.txt",
            next=f"`make python STACK={pulumi.get_stack()}`: it installs what the stack files name",
        ) from None
