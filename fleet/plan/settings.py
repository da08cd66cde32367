"""The form of a stack file: what may stand under `glm-fleet:` in stacks/Pulumi.ENV.yaml, and how a mistake is told.

Pure: a dictionary in, `Settings` or a `SettingsError` out. Role variables (`vars`) are judged by `rolevars`, what
model and hardware allow by `rules`. Called by `fleet.plan.program`.
"""

import datetime
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import pydantic
import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fleet import errors

SECRETS = ("vllm_api_key", "weights_token")
HOST_KEY = r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/]{40,}={0,2}$"
SERVER = r"^https?://[^/\s]+(/[^\s?#]*)?$"
REGISTRY = r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$"
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME)]
Port = Annotated[int, Field(ge=1, le=65535)]
Gpus = Annotated[int, Field(ge=0, le=16)]
Purgeable = Literal["weights", "driver"]
State = Literal["active", "drain", "absent"]
Wait = Annotated[int, Field(ge=1, le=3600)]  # seconds that a machine may take to answer SSH


def _day(told: Any) -> datetime.date:
    """Return a date that YAML may have recognised: Pulumi then hands it over as Go writes a time."""
    try:
        return datetime.date.fromisoformat(str(told).removesuffix(" 00:00:00 +0000 UTC"))
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_date", "no date") from None


Day = Annotated[datetime.date, BeforeValidator(_day)]


class Form(BaseModel):
    """A mapping in which every key is known: a misspelled one is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bastion(Form):
    """A machine through which others are reached; it has a pinned key of its own. No `identity`: the machine's own."""

    address: str = Field(min_length=1)
    host_key: str = Field(pattern=HOST_KEY)
    user: str = "root"
    port: Port = 22
    identity: str = ""


class Defaults(Form):
    """How to reach a machine and where it stands, where it does not say so itself."""

    user: str = "root"
    port: Port = 22
    identity: str = "~/.ssh/id_ed25519"
    become: bool = False
    bastion: Bastion | None = None
    gpus: Gpus = 8
    wait: Wait = 120
    rack: str = ""
    zone: str = ""


class Member(Form):
    """What a machine of every source has: its own role variables, and whether it is part of the fleet.

    One that drains stays set up and serves nothing; an absent one stays in the file, and what we put on it is taken off.
    """

    vars: dict[str, Any] = {}
    state: State = "active"


class SshMachine(Member):
    """One machine that answers SSH. `host_key` is its public key, as `fleet enrol` writes it.

    `internal_address` is the one under which other machines know it, for those who route requests.
    """

    address: str = Field(min_length=1)
    host_key: str = Field(pattern=HOST_KEY)
    user: str | None = None
    port: Port | None = None
    identity: str | None = None
    become: bool | None = None
    bastion: Bastion | None = None
    gpus: Gpus | None = None
    wait: Wait | None = None
    rack: str | None = None
    zone: str | None = None
    internal_address: str = ""


# What says where a machine stands, and nothing about how it is reached.
PLACE = {"rack", "zone", "internal_address"}


class SshNodes(Form):
    """Machines that exist. `builder` names the one that builds the shared image (default: the first)."""

    source: Literal["ssh"]
    defaults: Defaults = Defaults()
    machines: dict[Name, SshMachine] = Field(min_length=1)
    builder: str = ""

    def connection(self, name: str) -> dict[str, Any]:
        """Return address, port, user, identity, host_key, become, bastion, gpus and wait of one machine, defaults filled in."""
        own = self.machines[name].model_dump(exclude_none=True, exclude={"vars", "state", *PLACE})
        reach = {**self.defaults.model_dump(exclude_none=True, exclude=PLACE), **own}
        if "bastion" in reach:
            reach["bastion"]["identity"] = reach["bastion"]["identity"] or reach["identity"]
        return reach

    def place(self, name: str) -> dict[str, str]:
        """Return where a machine stands, as far as the stack says it: rack, zone, internal_address."""
        machine, defaults = self.machines[name], self.defaults
        told = {
            "rack": defaults.rack if machine.rack is None else machine.rack,
            "zone": defaults.zone if machine.zone is None else machine.zone,
            "internal_address": machine.internal_address,
        }
        return {key: value for key, value in told.items() if value}

    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine has."""
        own = self.machines[name].gpus
        return self.defaults.gpus if own is None else own


class LabMachine(Member):
    """One lab node: which system, and how many stand-in GPUs it shows."""

    system: Literal["ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "debian-12", "debian-13"]
    gpus: Gpus = 8


class LabNodes(Form):
    """Machines that the lab makes. `name` tells one lab on a machine from another (default: the stack's name)."""

    source: Literal["lab"]
    name: Name | Literal[""] = ""
    machines: dict[Name, LabMachine] = Field(min_length=1)
    builder: str = ""

    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine shows."""
        return self.machines[name].gpus


Nodes = SshNodes | LabNodes


class Probes(Form):
    """Which probes must pass before a replica counts as ready. No `cases` means all of them."""

    cases: list[str] = []
    min_iou: float = Field(default=0.5, gt=0, le=1)


class Mirrors(Form):
    """From where everything is fetched: each takes the place of the host in every URL of its kind (docs/mirrors.md)."""

    rocm: Annotated[str, Field(pattern=SERVER)] | None = None
    docker: Annotated[str, Field(pattern=SERVER)] | None = None
    git: Annotated[str, Field(pattern=SERVER)] | None = None
    hub: Annotated[str, Field(pattern=SERVER)] | None = None
    registry: Annotated[str, Field(pattern=REGISTRY)] | None = None


class Waiver(Form):
    """Why a policy does not stop this stack, and the last day on which that holds. The policy pack reads it itself."""

    reason: str = Field(min_length=1)
    expires: Day


class Settings(Form):
    """A whole stack file, less the secrets.

    `waivers` are by name of a policy (docs/policies.md), `release` says by machine why it may be replaced or deleted, `purge` what is
    taken off a machine then that else stays there (docs/take-off.md).
    """

    nodes: Annotated[Nodes, Field(discriminator="source")]
    vars: dict[str, Any] = {}
    mirrors: Mirrors = Mirrors()
    probes: Probes = Probes()
    parallel: int = Field(default=4, ge=1, le=64)
    waivers: dict[str, Waiver] = {}
    release: dict[str, Annotated[str, Field(min_length=1)]] = {}
    purge: list[Purgeable] = []

    @property
    def present(self) -> list[str]:
        """The machines that are part of the fleet, in the order of the file."""
        return [name for name, machine in self.nodes.machines.items() if machine.state != "absent"]

    @property
    def builder(self) -> str:
        """The machine that builds the image when one image serves all."""
        return self.nodes.builder or self.present[0]

    def protected(self, machine: str) -> bool:
        """Whether Pulumi refuses to replace or delete a machine: not in the lab, and not when the stack releases it."""
        return not isinstance(self.nodes, LabNodes) and machine not in self.release


def read(raw: Mapping[str, Any], file: str) -> Settings:
    """Return the settings in `raw` (keys without the `glm-fleet:` prefix), or raise SettingsError for `file`."""
    try:
        found = Settings.model_validate(raw)
    except pydantic.ValidationError as wrong:
        raise first([_told(error, file) for error in wrong.errors(include_url=False)]) from None
    mistakes = list(_between_machines(found, file))
    if mistakes:
        raise first(mistakes)
    return found


def first(mistakes: Sequence[errors.SettingsError]) -> errors.SettingsError:
    """Return the first mistake with all others as its notes, so that one look shows everything to mend."""
    for other in mistakes[1:]:
        mistakes[0].add_note(str(other))
    return mistakes[0]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that `name` most looks like, or "" when none does."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), "")


def _between_machines(found: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield what is wrong between machines: names that are none of theirs, one host under two names."""
    nodes, known = found.nodes, list(found.nodes.machines)
    named = [("nodes.builder", nodes.builder)] if nodes.builder else []
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
    yield from _absent(found, file)
    if isinstance(nodes, SshNodes):
        yield from _shared_addresses(nodes, file)


def _absent(found: Settings, file: str) -> Iterator[errors.SettingsError]:
    """Yield where what is absent is needed: a fleet without machines, a builder that is not there."""
    if not found.present:
        allowed = "a machine that is active or drains; `pulumi destroy` takes all off"
        yield errors.SettingsError(file=file, key="nodes.machines", seen="every machine is absent", allowed=allowed)
    elif found.nodes.builder in found.nodes.machines and found.builder not in found.present:
        allowed = f"one that is there: {', '.join(found.present)}"
        yield errors.SettingsError(
            file=file, key="nodes.builder", value=found.builder, seen="is absent", allowed=allowed
        )


def _shared_addresses(nodes: SshNodes, file: str) -> Iterator[errors.SettingsError]:
    taken: dict[tuple[str, int], str] = {}
    for name in nodes.machines:
        reach = nodes.connection(name)
        other = taken.setdefault((reach["address"], reach["port"]), name)
        if other != name:
            yield errors.SettingsError(
                file=file,
                key=f"nodes.machines.{name}.address",
                value=reach["address"],
                seen=f"{other} has the same address and port",
                allowed="one name for one host",
            )


# What pydantic calls a mistake → how we say it. Of anything else pydantic's own words are the `wanted` line.
SEEN = {
    "missing": "this key is missing",
    "extra_forbidden": "no such key",
    "union_tag_invalid": "no such node source",
    "union_tag_not_found": "this key is missing",
    "string_pattern_mismatch": "has another form",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "no_date": "is no date",
}
FORMS = {
    SERVER: "a URL, e.g. https://mirror.example/rocm",
    REGISTRY: "HOST, HOST:PORT or HOST/PATH of a registry",
    NAME: "lower-case letters, digits and '-', at most 63",
    HOST_KEY: "type and key of the machine's public host key; `fleet enrol -s STACK NODE` shows and writes it, its console proves it",
}
MISSING = {
    "nodes": "where the machines come from: `source` and `machines`",
    "host_key": FORMS[HOST_KEY],
    "address": "the name or IP address that answers SSH",
    "release": "why the machine may be replaced or deleted",
    "reason": "why this policy does not stop the stack",
    "expires": "the last day on which the waiver holds, e.g. 2026-12-31",
}


def _told(error: Any, file: str) -> errors.SettingsError:
    """Turn one pydantic error into a SettingsError with key, value, what is allowed and the nearest name."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    path = _keys(error["loc"])
    known: list[str] = []
    if kind.startswith("union_tag"):
        path.append("source")
        value = context.get("tag", "")
        known = [get_args(source.model_fields["source"].annotation)[0] for source in get_args(Nodes)]
    elif kind == "extra_forbidden" and (form := _form_at(error["loc"][:-1])):
        inherited = Member.model_fields if issubclass(form, Member) else {}
        own_first = sorted(form.model_fields, key=inherited.__contains__)
        known = [*own_first, *(SECRETS if form is Settings else ())]
    elif kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
    words = error["msg"].removeprefix("Input should be ").partition(", unable")[0]
    if kind == "missing":
        words = MISSING.get(path[-1], "")
    elif kind == "string_pattern_mismatch":
        words = FORMS.get(context["pattern"], context["pattern"])
    elif kind == "too_short":
        words = "at least one"
    elif kind in ("string_too_short", "no_date"):
        words = MISSING.get(path[-1]) or MISSING.get(path[0], "some text")
    return errors.SettingsError(
        file=file,
        key=".".join(path),
        value="" if kind in ("missing", "extra_forbidden") else value,
        seen=SEEN.get(kind, "is not allowed"),
        allowed=", ".join(known) or words,
        nearest=nearest(path[-1] if kind == "extra_forbidden" else str(value), known),
    )


def _keys(loc: Sequence[str | int]) -> list[str]:
    """Return a pydantic location as the keys of the file: without the source that it inserts after `nodes`."""
    return [str(part) for place, part in enumerate(loc) if part != "[key]" and not (place == 1 and loc[0] == "nodes")]


def _form_at(loc: Sequence[str | int]) -> type[Form] | None:
    """Return the form whose key a pydantic location names, to tell which keys it has."""
    lab = loc[1:2] == ("lab",)
    match _keys(loc):
        case []:
            return Settings
        case ["nodes"]:
            return LabNodes if lab else SshNodes
        case ["nodes", "defaults"]:
            return Defaults
        case ["nodes", "defaults", "bastion"] | ["nodes", "machines", _, "bastion"]:
            return Bastion
        case ["nodes", "machines", _]:
            return LabMachine if lab else SshMachine
        case ["mirrors"]:
            return Mirrors
        case ["probes"]:
            return Probes
        case ["waivers", _]:
            return Waiver
    return None
