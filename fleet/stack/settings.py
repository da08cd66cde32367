"""The form of a stack file: what may stand under `glm-fleet:` in stacks/Pulumi.ENV.yaml.

Pure: a dictionary in, `Settings` or a `SettingsError` out, in the words of `mistakes`. The forms of node sources are in `pools`, role
variables (`vars`) are validated by `role_vars`, what model and hardware allow by `rules`. Called by `stack` and `stackfile`.
"""

import datetime
import functools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import BeforeValidator, Field, PrivateAttr

from fleet import errors
from fleet.findings import Waiver
from fleet.schema import FOLDER, REGISTRY, SERVER, Form
from fleet.sources.cloud_form import Cloud
from fleet.sources.forms import Nodes
from fleet.sources.pool import Member
from fleet.sources.ssh.form import Reached
from fleet.stack import inventory, validation_errors
from fleet.stack.validation_errors import first, nearest, pool_key

__all__ = ["SECRETS", "Acceptance", "Mirrors", "Probes", "Settings", "WaiverForm", "first", "nearest", "read"]

SECRETS = validation_errors.SECRETS
Purgeable = Literal["weights", "driver"]


def _day(told: Any) -> datetime.date:
    """Return a date that YAML may have recognised: Pulumi then hands it over as Go writes a time."""
    try:
        return datetime.date.fromisoformat(str(told).removesuffix(" 00:00:00 +0000 UTC"))
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_date", "no date") from None


def _listed(told: Any) -> Any:
    """Return one source as a list of it."""
    return [told] if isinstance(told, Mapping) else told


Day = Annotated[datetime.date, BeforeValidator(_day)]


class Probes(Form):
    """Which probes must pass before a replica counts as ready. No `cases` means all of them, ours and those of the folder `extra`."""

    cases: list[str] = []
    min_iou: float = Field(default=0.5, gt=0, le=1)
    extra: Annotated[str, Field(pattern=FOLDER)] | None = None


class Acceptance(Form):
    """What `fleet accept` measures with: an image by digest, and by benchmark a command in place of ours (docs/acceptance.md)."""

    image: str = ""
    commands: dict[str, Annotated[list[str], Field(min_length=1)]] = {}


class Mirrors(Form):
    """From where everything is fetched: each takes the place of the host in every URL of its kind (docs/mirrors.md)."""

    rocm: Annotated[str, Field(pattern=SERVER)] | None = None
    docker: Annotated[str, Field(pattern=SERVER)] | None = None
    git: Annotated[str, Field(pattern=SERVER)] | None = None
    hub: Annotated[str, Field(pattern=SERVER)] | None = None
    registry: Annotated[str, Field(pattern=REGISTRY)] | None = None


class WaiverForm(Form):
    """The form of a waiver (fleet.findings.Waiver). The policy pack reads it itself."""

    reason: str = Field(min_length=1)
    expires: Day


class Settings(Form):
    """A whole stack file, less the secrets.

    `nodes` may be one source, or a list of several; a machine's name is its own in all of them.
    `waivers` are by name of a policy (docs/policies.md), a rule (docs/rules.md) or a check of the preflight (docs/preflight.md), `release` says
    by machine why it may be replaced or deleted, `purge` what is taken off a machine then that else stays there (docs/teardown.md).
    """

    nodes: Annotated[
        list[Annotated[Nodes, Field(discriminator="source")]], Field(min_length=1), BeforeValidator(_listed)
    ]
    vars: dict[str, Any] = {}
    mirrors: Mirrors = Mirrors()
    probes: Probes = Probes()
    acceptance: Acceptance = Acceptance()
    parallel: int = Field(default=4, ge=1, le=64)
    waivers: dict[str, WaiverForm] = {}
    release: dict[str, Annotated[str, Field(min_length=1)]] = {}
    purge: list[Purgeable] = []
    _inventories: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @functools.cached_property
    def machines(self) -> Mapping[str, Member]:
        """The machines of every source, in the order of the file."""
        return {name: member for pool in self.nodes for name, member in pool.members.items()}

    @functools.cached_property
    def _pools(self) -> Mapping[str, int]:
        return {name: place for place, pool in enumerate(self.nodes) for name in pool.members}

    def pool(self, machine: str) -> Nodes:
        """Return the source of a machine, with all that the stack says of it."""
        return self.nodes[self._pools[machine]]

    def key(self, machine: str) -> str:
        """Return where a machine stands in the stack file."""
        return f"{pool_key(self.nodes, self._pools[machine])}.machines.{machine}"

    def located(self, mistake: errors.SettingsError) -> errors.SettingsError:
        """Return a mistake as one of the file in which it stands: machines may have a file of their own."""
        return inventory.locate(mistake, self._inventories)

    def waiver(self, name: str) -> Waiver | None:
        """Return the waiver of a rule; None where the stack has none."""
        form = self.waivers.get(name)
        return Waiver(form.reason, form.expires) if form else None

    def gpus(self, machine: str) -> int:
        """Return how many GPUs a machine has."""
        return self.pool(machine).gpus(machine)

    @functools.cached_property
    def present(self) -> list[str]:
        """The machines that are part of the fleet, in the order of the file."""
        return [name for pool in self.nodes for name in pool.present]

    @functools.cached_property
    def builder(self) -> str:
        """The machine that builds the image when one image serves all."""
        return next((pool.builder for pool in self.nodes if pool.builder), "") or self.present[0]

    def protected(self, machine: str) -> bool:
        """Whether Pulumi refuses to replace or delete a machine: not in the lab, and not when the stack releases it."""
        return self.pool(machine).PROTECTED and machine not in self.release


def read(raw: Mapping[str, Any], file: str, inventories: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """Return the settings in `raw` (keys without the `glm-fleet:` prefix), or raise SettingsError for `file`.

    `inventories` are the keys whose values stood in files of their own (inventory.expand).
    """
    try:
        found = Settings.model_validate(raw)
    except pydantic.ValidationError as wrong:
        nodes = raw.get("nodes")
        lone = not isinstance(nodes, list) or len(nodes) == 1
        told = validation_errors.told(wrong, file, Settings, lone)
        raise first([inventory.locate(one, inventories) for one in told]) from None
    between = [inventory.locate(one, inventories) for one in _between_machines(found, file)]
    if between:
        raise first(between)
    found._inventories = inventories
    return found


def _between_machines(found: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield what is wrong between machines: names that are none of theirs or used twice, one host under two names."""
    known = list(found.machines)
    for place, pool in enumerate(found.nodes):
        for name in pool.members:
            if found._pools[name] != place:
                yield errors.SettingsError(
                    file=file,
                    key=f"{pool_key(found.nodes, place)}.machines.{name}",
                    seen=f"the same name stands in {found.key(name)}",
                    allowed="one name for one machine, whatever its source",
                )
    named = [
        (f"{pool_key(found.nodes, place)}.builder", pool.builder)
        for place, pool in enumerate(found.nodes)
        if pool.builder
    ]
    for key, name in [*named, *(("release", name) for name in found.release)]:
        if name not in known:
            yield errors.SettingsError(
                file=file,
                key=key,
                value=name,
                seen="no machine has this name",
                allowed=", ".join(known),
                nearest=nearest(name, known),
            )
    yield from _builders(found, named, file)
    yield from _shared_addresses(found, file)
    yield from _shared_labels(found, file)
    for place, pool in enumerate(found.nodes):
        for key, seen, allowed in pool.mistakes():
            where = f"{pool_key(found.nodes, place)}.machines.{key}"
            yield errors.SettingsError(file=file, key=where, seen=seen, allowed=allowed)


def _builders(found: Settings, named: Sequence[tuple[str, str]], file: str) -> Iterator[errors.SettingsError]:
    """Yield where what is absent is needed, a fleet without machines or a builder that is not there; and two builders."""
    if not found.present:
        allowed = "a machine that is active or drains; `pulumi destroy` takes all off"
        yield errors.SettingsError(file=file, key="nodes.machines", seen="every machine is absent", allowed=allowed)
        return
    for key, name in named:
        if name in found.machines and name not in found.present:
            allowed = f"one that is there: {', '.join(found.present)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="is absent", allowed=allowed)
    for key, name in named[1:]:
        seen = f"{named[0][0]} names {named[0][1]}"
        yield errors.SettingsError(file=file, key=key, value=name, seen=seen, allowed="one builder for the fleet")


def _shared_addresses(found: Settings, file: str) -> Iterator[errors.SettingsError]:
    taken: dict[tuple[str, int], str] = {}
    for pool in found.nodes:
        if not isinstance(pool, Reached):
            continue
        for name in pool.members:
            reach = pool.with_defaults(name)
            other = taken.setdefault((reach["address"], reach["port"]), name)
            if other != name:
                yield errors.SettingsError(
                    file=file,
                    key=f"{found.key(name)}.address",
                    value=reach["address"],
                    seen=f"{other} has the same address and port",
                    allowed="one name for one host",
                )


def _shared_labels(found: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield the pools of a cloud that have the name of another: their networks would be one."""
    taken: dict[str, str] = {}
    for place, pool in enumerate(found.nodes):
        key = pool_key(found.nodes, place)
        if isinstance(pool, Cloud) and (other := taken.setdefault(pool.label, key)) != key:
            yield errors.SettingsError(
                file=file,
                key=f"{key}.name",
                value=pool.label,
                seen=f"{other} has the same name",
                allowed="a `name` of its own for each pool",
            )
