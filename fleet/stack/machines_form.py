"""The machines of a stack file: the sources under `nodes`, what each machine is by its source, and the mistakes between machines.

Pure. Part of the form in `settings`. fleet.sources has the forms of the sources.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fleet import errors
from fleet.schema import Form
from fleet.sources import forms
from fleet.sources.cloud_form import Cloud
from fleet.sources.pool import Member
from fleet.sources.ssh.form import Reached
from fleet.stack.gateway_form import canonical


def _as_list(sources: Any) -> Any:
    """Return a single source as a list of one."""
    return [sources] if isinstance(sources, Mapping) else sources


class Machines(Form):
    """The machines of a stack, whose name is unique over all sources: `nodes` is one source, or a list of several; [] beside `kubernetes`."""

    nodes: Annotated[
        list[Annotated[forms.Nodes, Field(discriminator="source")]], Field(min_length=1), BeforeValidator(_as_list)
    ] = []

    @functools.cached_property
    def machines(self) -> Mapping[str, Member]:
        """The machines of every source, in the order of the file."""
        return {name: member for pool in self.nodes for name, member in pool.machines.items()}

    @functools.cached_property
    def _pools(self) -> Mapping[str, int]:
        return {name: place for place, pool in enumerate(self.nodes) for name in pool.machines}

    def pool(self, machine: str) -> forms.Nodes:
        """Return the source of a machine, with the stack's settings for it."""
        return self.nodes[self._pools[machine]]

    def pool_key(self, place: int) -> str:
        """Return the key of a source; a lone one has no number."""
        return f"nodes[{place}]" if len(self.nodes) > 1 else "nodes"

    def key(self, machine: str) -> str:
        """Return the key of a machine in the stack file."""
        return f"{self.pool_key(self._pools[machine])}.machines.{machine}"

    def gpus(self, machine: str) -> int:
        """Return how many GPUs a machine has."""
        return self.pool(machine).gpus(machine)

    @functools.cached_property
    def present(self) -> list[str]:
        """The machines that are not absent, in the order of the file."""
        return [name for pool in self.nodes for name in pool.present]

    @functools.cached_property
    def serving(self) -> list[str]:
        """The present machines with GPUs, in the order of the file: each has replicas, unless it drains."""
        return [name for name in self.present if self.gpus(name)]

    @functools.cached_property
    def builder(self) -> str:
        """The machine that builds the image when all machines use one image."""
        return next((pool.builder for pool in self.nodes if pool.builder), "") or self.serving[0]


def mistakes(stack: Machines, released: Collection[str], file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes that concern several machines: a name used twice, a name of no machine (also in `release`), a host with two names."""
    names = list(stack.machines)
    for place, pool in enumerate(stack.nodes):
        for name in pool.machines:
            if stack._pools[name] != place:
                yield errors.SettingsError(
                    file=file,
                    key=f"{stack.pool_key(place)}.machines.{name}",
                    seen=f"the same name is at {stack.key(name)}",
                    allowed="one name for one machine, whatever its source",
                )
    builders = [
        (f"{stack.pool_key(place)}.builder", pool.builder) for place, pool in enumerate(stack.nodes) if pool.builder
    ]
    for key, name in [*builders, *(("release", name) for name in released)]:
        if name not in names:
            yield errors.SettingsError(
                file=file,
                key=key,
                value=name,
                seen="no machine has this name",
                allowed=", ".join(names),
                nearest=errors.nearest(name, names),
            )
    yield from _builders_that_cannot(stack, builders, file)
    yield from _shared_addresses(stack, file)
    yield from _shared_labels(stack, file)
    for place, pool in enumerate(stack.nodes):
        for key, seen, allowed in pool.mistakes():
            machine_key = f"{stack.pool_key(place)}.machines.{key}"
            yield errors.SettingsError(file=file, key=machine_key, seen=seen, allowed=allowed)


def _builders_that_cannot(
    stack: Machines, builders: Sequence[tuple[str, str]], file: str
) -> Iterator[errors.SettingsError]:
    """Yield a fleet whose machines are all absent or serve nothing, a builder that is absent or serves nothing, and a second one."""
    if not stack.present:
        allowed = "a machine that is active or drains; `pulumi destroy` tears all machines down"
        yield errors.SettingsError(file=file, key="nodes.machines", seen="every machine is absent", allowed=allowed)
        return
    if not stack.serving:
        yield errors.SettingsError(
            file=file, key="nodes.machines", seen="no machine has GPUs", allowed="one that serves"
        )
        return
    for key, name in builders:
        if name in stack.machines and name not in stack.present:
            allowed = f"a machine that is not absent: {', '.join(stack.present)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="is absent", allowed=allowed)
        elif name in stack.present and name not in stack.serving:
            allowed = f"a machine that serves: {', '.join(stack.serving)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="has no GPUs", allowed=allowed)
    for key, name in builders[1:]:
        seen = f"{builders[0][0]} names {builders[0][1]}"
        yield errors.SettingsError(file=file, key=key, value=name, seen=seen, allowed="one builder for the fleet")


def _shared_addresses(stack: Machines, file: str) -> Iterator[errors.SettingsError]:
    owners: dict[tuple[str, int], str] = {}
    for pool in stack.nodes:
        if not isinstance(pool, Reached):
            continue
        for name in pool.machines:
            connection = pool.with_defaults(name)
            owner = owners.setdefault((canonical(connection["address"]), connection["port"]), name)
            if owner != name:
                yield errors.SettingsError(
                    file=file,
                    key=f"{stack.key(name)}.address",
                    value=connection["address"],
                    seen=f"{owner} has the same address and port",
                    allowed="one name for one host",
                )


def _shared_labels(stack: Machines, file: str) -> Iterator[errors.SettingsError]:
    """Yield the cloud sources with the name of another: both would use one network."""
    owners: dict[str, str] = {}
    for place, pool in enumerate(stack.nodes):
        key = stack.pool_key(place)
        if isinstance(pool, Cloud) and (owner := owners.setdefault(pool.label, key)) != key:
            yield errors.SettingsError(
                file=file,
                key=f"{key}.name",
                value=pool.label,
                seen=f"{owner} has the same name",
                allowed="a `name` of its own for each pool",
            )
