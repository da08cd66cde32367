"""Where machines come from: one file a source, each with a function `supply`.

Owns the small interface between a source and the rest of the program. Called by `fleet.plan.program`.
A source ends where SSH answers: what is then done on a machine is not its business.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import pulumi

from fleet import errors
from fleet.plan import pools, settings


@dataclass(frozen=True)
class Machine:
    """One machine as the resource Node wants it.

    `inputs` holds address, port, user, identity, host_key, final_key (the key that it gets in the place of host_key; optional), become,
    gpus, bastion (the same of the machine before it; optional), wait (seconds until it must have answered; optional) and install (which installation of it this is; optional); each may be a value
    or an Output.
    `place` says where it stands (rack, zone, internal_address), for those who route requests.
    `vars` are role variables that only the source can know; the stack's own are laid over them.
    `resource` is what stands behind the machine, when the source made it: the machine's other resources wait for it,
    and need no clean-up of their own when it is deleted.
    """

    inputs: Mapping[str, Any]
    resource: pulumi.Resource | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    vars: pulumi.Input[Mapping[str, Any]] = field(default_factory=dict)


def supply(judged: settings.Settings, stack: str, fleet: pulumi.ProviderResource) -> Mapping[str, Machine]:
    """Return the machines that are present by name, in the order of the stack file; each source makes its own.

    `fleet` is our provider, of which a source may have need (HostKey).
    """
    made: dict[str, Machine] = {}
    for pool in judged.nodes:
        made |= _of(pool, pool.present, stack, fleet, {name for name in pool.present if judged.protected(name)})
    return made


def _of(
    pool: pools.Nodes, present: Sequence[str], stack: str, fleet: pulumi.ProviderResource, protected: AbstractSet[str]
) -> Mapping[str, Machine]:
    """A new source is a form in `pools` and one case here; what it needs is imported by stacks that use it alone."""
    match pool:
        case pools.SshNodes():
            from fleet.plan.nodes import ssh

            return ssh.supply(pool, present)
        case pools.LabNodes():
            from fleet.plan.nodes import lab

            return lab.supply(pool, present, stack)
        case pools.RedfishNodes():
            from fleet.plan.nodes import redfish

            return redfish.supply(pool, present, fleet, protected)
        case pools.DigitalOceanNodes():
            with sdk("digitalocean", "pulumi-digitalocean"):
                from fleet.plan.nodes import digitalocean

            return digitalocean.supply(pool, present, stack, fleet, protected)
        case pools.AzureNodes():
            with sdk("azure", "pulumi-azure-native"):
                from fleet.plan.nodes import azure

            return azure.supply(pool, present, stack, fleet, protected)
        case pools.OciNodes():
            with sdk("oci", "pulumi-oci"):
                from fleet.plan.nodes import oci

            return oci.supply(pool, present, stack, fleet, protected)


@contextlib.contextmanager
def sdk(source: str, package: str) -> Iterator[None]:
    """Around the import of a source that needs a cloud's SDK, which only stacks have that use this cloud."""
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
