"""The form of source `ssh`: machines that are there already. Used by `settings`; what is made of it is in fleet/sources/ssh/machines.py."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from fleet.schema import HOST_KEY, Form, Gpus, Name, Port
from fleet.sources.pool import Member, Pool

Wait = Annotated[int, Field(ge=1, le=3600)]  # seconds that a machine may take to answer SSH
# What says where a machine stands, and nothing about how it is reached.
PLACE = {"rack", "zone", "internal_address"}


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


class Reached(Pool):
    """Machines of which the stack says how they are reached: `members` over `defaults`."""

    defaults: Defaults = Defaults()

    @property
    @abstractmethod
    def members(self) -> Mapping[str, SshMachine]:
        """The machines by name."""

    @abstractmethod
    def connection(self, name: str) -> dict[str, Any]:
        """Return address, port, user, identity, host_key, become, bastion, gpus and wait of one machine, defaults filled in."""

    def told(self, name: str) -> dict[str, Any]:
        """Return all that the stack says of one machine, less where it stands, defaults filled in."""
        own = self.members[name].model_dump(exclude_none=True, exclude={"vars", "state", *PLACE})
        reach = {**self.defaults.model_dump(exclude_none=True, exclude=PLACE), **own}
        if "bastion" in reach:
            reach["bastion"]["identity"] = reach["bastion"]["identity"] or reach["identity"]
        return reach

    def place(self, name: str) -> dict[str, str]:
        """Return where a machine stands, as far as the stack says it: rack, zone, internal_address."""
        machine, defaults = self.members[name], self.defaults
        told = {
            "rack": defaults.rack if machine.rack is None else machine.rack,
            "zone": defaults.zone if machine.zone is None else machine.zone,
            "internal_address": machine.internal_address,
        }
        return {key: value for key, value in told.items() if value}

    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine has."""
        own = self.members[name].gpus
        return self.defaults.gpus if own is None else own


class Nodes(Reached):
    """Machines that exist. They may stand in a file of their own: then `machines` names it."""

    source: Literal["ssh"]
    machines: dict[Name, SshMachine] = Field(min_length=1)

    @property
    def members(self) -> Mapping[str, SshMachine]:
        """The machines by name."""
        return self.machines

    def connection(self, name: str) -> dict[str, Any]:
        """Return how one machine is reached."""
        return self.told(name)
