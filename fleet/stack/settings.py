"""The form of a stack file: every key allowed under `glm-fleet:` in stacks/Pulumi.ENV.yaml.

Pure: a dictionary in, `Settings` or a `SettingsError` out. `machines_form` has the key `nodes`, `validation_errors` the messages.
`role_vars` and `rules` validate the role variables (`vars`). Called by fleet.program.config and `stack_file`.
"""

import datetime
import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import BeforeValidator, Field, PrivateAttr

from fleet import errors
from fleet.findings import Waiver
from fleet.schema import FOLDER, REGISTRY, SERVER, Form, Name
from fleet.sources import forms
from fleet.stack import (
    cluster_form,
    gateway_form,
    gateway_network,
    inventory,
    kubernetes_form,
    machines_form,
    validation_errors,
)
from fleet.stack.machines_form import Machines

SECRETS = ("vllm_api_key", "weights_token", "gateway_key", *forms.SECRETS)
Purgeable = Literal["weights", "driver"]
ENDPOINT = "gateway"  # the name in `release` that stands for the proxies of all machines, and the authority


def _day(value: Any) -> datetime.date:
    """Return a date. Pulumi passes one that YAML recognises in Go's form of a time."""
    try:
        return datetime.date.fromisoformat(str(value).removesuffix(" 00:00:00 +0000 UTC"))
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_date", "no date") from None


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
    kubernetes: Annotated[str, Field(pattern=SERVER)] | None = None
    registry: Annotated[str, Field(pattern=REGISTRY)] | None = None


Step = Literal["drain", "teardown", "rebuild", "verify", "total"]
Measured = Literal["host", "docker", "rocm", "transformers", "weights", "vllm", "gateway"]  # roles


class Drill(Form):
    """The seconds that each phase of `fleet drill` may take: its steps, and the roles of the rebuild (docs/drill.md)."""

    budgets: dict[Step | Measured, Annotated[int, Field(ge=1)]] = {}


class Review(Form):
    """Who may approve a change: an allowed-signers file of ssh-keygen, relative to the project (docs/review.md). Only `fleet apply` then changes the stack."""

    signers: str = Field(min_length=1)


class WaiverForm(Form):
    """The form of a waiver (fleet.findings.Waiver). The policy pack reads it itself."""

    reason: str = Field(min_length=1)
    expires: Day


class Settings(Machines):
    """A whole stack file, less the secrets. Its models run on machines (`nodes`), or on a cluster (`kubernetes`).

    With `cluster` the machines become a cluster, and no model is in this stack.
    `waivers` has the names of policies
    (docs/policies.md), rules (docs/rules.md) and preflight checks (docs/preflight.md). `release` says by machine why it may be replaced or
    deleted (`gateway` stands for all proxies; on a cluster by model, and `namespace` stands for that), `purge` what its teardown then removes besides (docs/teardown.md). A machine without GPUs serves nothing.
    """

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
    drill: Drill = Drill()
    kubernetes: kubernetes_form.Cluster | None = None
    cluster: cluster_form.OwnCluster | None = None
    review: Review | None = None
    _inventories: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def locate_mistake(self, mistake: errors.SettingsError) -> errors.SettingsError:
        """Return a mistake with the file that contains it: machines may be in a separate file."""
        return inventory.locate(mistake, self._inventories)

    def waiver(self, name: str) -> Waiver | None:
        """Return the waiver of a rule; None where the stack has none."""
        form = self.waivers.get(name)
        return Waiver(form.reason, form.expires) if form else None

    @functools.cached_property
    def gateways(self) -> list[str]:
        """The machines with a proxy, in the order of the file: those that serve and those of `gateway.nodes`; none without a gateway."""
        if self.gateway is None:
            return []
        return [name for name in self.present if name in self.serving or name in self.gateway.nodes]

    @property
    def by_acme(self) -> bool:
        """Whether the gateways get their certificates from an ACME server."""
        return self.gateway is not None and self.gateway.certificate == "acme"

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
    if settings.kubernetes:
        mistakes = list(kubernetes_form.mistakes(settings.kubernetes, raw, file))
    else:
        found = [*_cluster_mistakes(settings, raw, file), *_mistakes(settings, file)]
        mistakes = [inventory.locate(mistake, inventories) for mistake in found]
    if mistakes:
        raise errors.first(mistakes)
    settings._inventories = inventories
    return settings


def _cluster_mistakes(settings: Settings, raw: Mapping[str, Any], file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes of a stack whose machines become a cluster."""
    if settings.cluster:
        yield from cluster_form.mistakes(settings.cluster, raw, list(settings.machines), settings.present, file)


def _mistakes(settings: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes between keys of a stack with machines that are each of the right form."""
    if not settings.nodes:
        allowed = validation_errors.MISSING["nodes"]
        yield errors.SettingsError(file=file, key="nodes", seen="this key is missing", allowed=allowed)
        return
    yield from machines_form.mistakes(settings, [name for name in settings.release if name != ENDPOINT], file)
    yield from gateway_form.mistakes(
        settings.gateway, settings.clients, list(settings.machines), settings.present, file
    )
    pools = [(settings.pool_key(place), pool) for place, pool in enumerate(settings.nodes)]
    yield from gateway_network.mistakes(settings.gateway, pools, settings.gateways, file)
