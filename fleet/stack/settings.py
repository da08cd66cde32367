"""The form of a stack file: every key allowed under `glm-fleet:` in stacks/Pulumi.ENV.yaml.

Pure: a dictionary in, `Settings` or a `SettingsError` out. fleet.sources has the forms of node sources, `validation_errors` the messages.
`role_vars` and `rules` validate the role variables (`vars`). Called by fleet.program.config and `stack_file`.
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
from fleet.schema import FOLDER, REGISTRY, SERVER, Form, Name
from fleet.sources import forms
from fleet.sources.cloud_form import Cloud
from fleet.sources.pool import Member
from fleet.sources.ssh.form import Reached
from fleet.stack import gateway_form, gateway_network, inventory, validation_errors

SECRETS = ("vllm_api_key", "weights_token", "gateway_key", *forms.SECRETS)
Purgeable = Literal["weights", "driver"]
ENDPOINT = "gateway"  # the name in `release` that stands for the proxies of all machines, and the authority


def _day(value: Any) -> datetime.date:
    """Return a date. Pulumi passes one that YAML recognises in Go's form of a time."""
    try:
        return datetime.date.fromisoformat(str(value).removesuffix(" 00:00:00 +0000 UTC"))
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_date", "no date") from None


def _as_list(sources: Any) -> Any:
    """Return a single source as a list of one."""
    return [sources] if isinstance(sources, Mapping) else sources


Day = Annotated[datetime.date, BeforeValidator(_day)]


class Probes(Form):
    """The probes that must pass before a replica counts as ready. Without `cases`: all, also those of the folder `extra`."""

    cases: list[str] = []
    min_iou: float = Field(default=0.5, gt=0, le=1)
    extra: Annotated[str, Field(pattern=FOLDER)] | None = None


class Acceptance(Form):
    """The image (by digest) that `fleet accept` measures with, and by benchmark a command that replaces the default (docs/acceptance.md)."""

    image: str = ""
    commands: dict[str, Annotated[list[str], Field(min_length=1)]] = {}


class Mirrors(Form):
    """Mirrors. Each replaces the host in every URL of its kind (docs/mirrors.md)."""

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

    `nodes` is one source or a list of several; a machine's name is unique over all of them. `waivers` has the names of policies
    (docs/policies.md), rules (docs/rules.md) and preflight checks (docs/preflight.md). `release` says by machine why it may be replaced or
    deleted (`gateway` stands for all proxies), `purge` what its teardown then removes besides (docs/teardown.md). A machine without GPUs serves nothing.
    """

    nodes: Annotated[
        list[Annotated[forms.Nodes, Field(discriminator="source")]], Field(min_length=1), BeforeValidator(_as_list)
    ]
    vars: dict[str, Any] = {}
    mirrors: Mirrors = Mirrors()
    probes: Probes = Probes()
    acceptance: Acceptance = Acceptance()
    parallel: int = Field(default=4, ge=1, le=64)
    waivers: dict[str, WaiverForm] = {}
    release: dict[str, Annotated[str, Field(min_length=1)]] = {}
    purge: list[Purgeable] = []
    gateway: gateway_form.Gateway | None = None
    clients: dict[Name, gateway_form.Client] = {}
    change: gateway_form.Change = gateway_form.Change()
    _inventories: Mapping[str, str] = PrivateAttr(default_factory=dict)

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

    def locate_mistake(self, mistake: errors.SettingsError) -> errors.SettingsError:
        """Return a mistake with the file that contains it: machines may be in a separate file."""
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
        """The machines that are not absent, in the order of the file."""
        return [name for pool in self.nodes for name in pool.present]

    @functools.cached_property
    def serving(self) -> list[str]:
        """The present machines with GPUs, in the order of the file: each has replicas, unless it drains."""
        return [name for name in self.present if self.gpus(name)]

    @functools.cached_property
    def gateways(self) -> list[str]:
        """The machines with a proxy, in the order of the file: those that serve and those of `gateway.nodes`; none without a gateway."""
        if self.gateway is None:
            return []
        return [name for name in self.present if name in self.serving or name in self.gateway.nodes]

    @functools.cached_property
    def builder(self) -> str:
        """The machine that builds the image when all machines use one image."""
        return next((pool.builder for pool in self.nodes if pool.builder), "") or self.serving[0]

    def protected(self, machine: str) -> bool:
        """Whether Pulumi refuses to replace or delete a machine: unless it is the lab's, or the stack releases it."""
        return self.pool(machine).PROTECTED and machine not in self.release

    def proxy_protected(self, machine: str) -> bool:
        """Whether Pulumi refuses to delete a machine's proxies: unless the stack releases the machine, or `gateway`."""
        return self.protected(machine) and ENDPOINT not in self.release


def read(raw: Mapping[str, Any], file: str, inventories: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """Return the settings in `raw` (keys without the prefix `glm-fleet:`). Raises SettingsError for `file`, with every further mistake as a note.

    `inventories` has the keys whose values are in separate files (inventory.expand).
    """
    try:
        settings = Settings.model_validate(raw)
    except pydantic.ValidationError as error:
        nodes = raw.get("nodes")
        lone = not isinstance(nodes, list) or len(nodes) == 1
        mistakes = validation_errors.from_pydantic(error, file, Settings, lone, SECRETS)
        raise errors.first([inventory.locate(mistake, inventories) for mistake in mistakes]) from None
    mistakes = [inventory.locate(mistake, inventories) for mistake in _between_machines(settings, file)]
    if mistakes:
        raise errors.first(mistakes)
    settings._inventories = inventories
    return settings


def _between_machines(settings: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes that concern several machines: a name used twice, a name of no machine, a host with two names."""
    names = list(settings.machines)
    for place, pool in enumerate(settings.nodes):
        for name in pool.machines:
            if settings._pools[name] != place:
                yield errors.SettingsError(
                    file=file,
                    key=f"{settings.pool_key(place)}.machines.{name}",
                    seen=f"the same name is at {settings.key(name)}",
                    allowed="one name for one machine, whatever its source",
                )
    builders = [
        (f"{settings.pool_key(place)}.builder", pool.builder)
        for place, pool in enumerate(settings.nodes)
        if pool.builder
    ]
    for key, name in [*builders, *(("release", name) for name in settings.release if name != ENDPOINT)]:
        if name not in names:
            yield errors.SettingsError(
                file=file,
                key=key,
                value=name,
                seen="no machine has this name",
                allowed=", ".join(names),
                nearest=errors.nearest(name, names),
            )
    yield from _builders_that_cannot(settings, builders, file)
    yield from _shared_addresses(settings, file)
    yield from _shared_labels(settings, file)
    yield from gateway_form.mistakes(settings.gateway, settings.clients, names, settings.present, file)
    pools = [(settings.pool_key(place), pool) for place, pool in enumerate(settings.nodes)]
    yield from gateway_network.mistakes(settings.gateway, pools, settings.gateways, file)
    for place, pool in enumerate(settings.nodes):
        for key, seen, allowed in pool.mistakes():
            machine_key = f"{settings.pool_key(place)}.machines.{key}"
            yield errors.SettingsError(file=file, key=machine_key, seen=seen, allowed=allowed)


def _builders_that_cannot(
    settings: Settings, builders: Sequence[tuple[str, str]], file: str
) -> Iterator[errors.SettingsError]:
    """Yield a fleet whose machines are all absent or serve nothing, a builder that is absent or serves nothing, and a second one."""
    if not settings.present:
        allowed = "a machine that is active or drains; `pulumi destroy` tears all machines down"
        yield errors.SettingsError(file=file, key="nodes.machines", seen="every machine is absent", allowed=allowed)
        return
    if not settings.serving:
        yield errors.SettingsError(
            file=file, key="nodes.machines", seen="no machine has GPUs", allowed="one that serves"
        )
        return
    for key, name in builders:
        if name in settings.machines and name not in settings.present:
            allowed = f"a machine that is not absent: {', '.join(settings.present)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="is absent", allowed=allowed)
        elif name in settings.present and name not in settings.serving:
            allowed = f"a machine that serves: {', '.join(settings.serving)}"
            yield errors.SettingsError(file=file, key=key, value=name, seen="has no GPUs", allowed=allowed)
    for key, name in builders[1:]:
        seen = f"{builders[0][0]} names {builders[0][1]}"
        yield errors.SettingsError(file=file, key=key, value=name, seen=seen, allowed="one builder for the fleet")


def _shared_addresses(settings: Settings, file: str) -> Iterator[errors.SettingsError]:
    owners: dict[tuple[str, int], str] = {}
    for pool in settings.nodes:
        if not isinstance(pool, Reached):
            continue
        for name in pool.machines:
            connection = pool.with_defaults(name)
            owner = owners.setdefault((gateway_form.canonical(connection["address"]), connection["port"]), name)
            if owner != name:
                yield errors.SettingsError(
                    file=file,
                    key=f"{settings.key(name)}.address",
                    value=connection["address"],
                    seen=f"{owner} has the same address and port",
                    allowed="one name for one host",
                )


def _shared_labels(settings: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield the cloud sources with the name of another: both would use one network."""
    owners: dict[str, str] = {}
    for place, pool in enumerate(settings.nodes):
        key = settings.pool_key(place)
        if isinstance(pool, Cloud) and (owner := owners.setdefault(pool.label, key)) != key:
            yield errors.SettingsError(
                file=file,
                key=f"{key}.name",
                value=pool.label,
                seen=f"{owner} has the same name",
                allowed="a `name` of its own for each pool",
            )
