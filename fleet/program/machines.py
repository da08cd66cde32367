"""The machines of a stack, from the sources that its file names. Called by `fleet.program`.

A source ends where SSH answers: what is then done on a machine is not its business.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping

import pulumi

from fleet import errors
from fleet.resources import Machine
from fleet.sources.request import Request
from fleet.stack import settings


def supply(judged: settings.Settings, stack: str, fleet: pulumi.ProviderResource) -> Mapping[str, Machine]:
    """Return the machines that are present by name, in the order of the stack file; each source makes its own."""
    made: dict[str, Machine] = {}
    for pool in judged.nodes:
        protected = {name for name in pool.present if judged.protected(name)}
        with sdk(pool.source, pool.SDK):
            source = importlib.import_module(f"fleet.sources.{pool.source}.machines")
        made |= source.supply(pool, Request(pool.present, stack, fleet, protected))
    return made


@contextlib.contextmanager
def sdk(source: str, package: str) -> Iterator[None]:
    """Report an SDK that is missing: only stacks that use a cloud have its package."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name != package.replace("-", "_"):
            raise
        raise errors.FleetError(
            node=f"source {source}",
            doing="import its SDK",
            seen=f"the Python package {package} is not installed",
            wanted=f"the packages of requirements/{source}.txt",
            next="`make python`: it installs what the stack files name",
        ) from None
