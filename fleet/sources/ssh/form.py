"""Form of the source `ssh` in a stack file: existing machines. Used by sources.forms; fleet/sources/ssh/machines.py supplies them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fleet.schema import HOST_KEY, Form, Gpus, Name, Port
from fleet.sources.pool import Member, Pool

Wait = Annotated[int, Field(ge=1, le=3600)]  # seconds that a machine may take to answer SSH
# Keys about a machine's location, not about SSH.
PLACE = {"rack", "zone", "internal_address"}


class Bastion(Form):
    """A jump host, with its own pinned key. Without `identity` it uses that of the machine behind it."""

    address: str = Field(min_length=1)
    host_key: str = Field(pattern=HOST_KEY)
    user: str = "root"
    port: Port = 22
    identity: str = ""


class Defaults(Form):
    """Defaults of the machines: SSH and location."""

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

    `internal_address` is its address for other machines, which a gateway in front of the fleet needs.
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
    """Machines with their SSH settings in the stack file: each member's own, else `defaults`."""

    defaults: Defaults = Defaults()

    if TYPE_CHECKING:
        machines: Mapping[str, SshMachine]

    def connection(self, name: str) -> dict[str, Any]:
        """Return address, port, user, identity, host_key, become, bastion, gpus and wait of one machine, defaults filled in."""
        return self.with_defaults(name)

    def with_defaults(self, name: str) -> dict[str, Any]:
        """Return the settings of one machine, defaults filled in, without vars, state and location."""
        own = self.machines[name].model_dump(exclude_none=True, exclude={"vars", "state", *PLACE})
        values = {**self.defaults.model_dump(exclude_none=True, exclude=PLACE), **own}
        if "bastion" in values:
            values["bastion"]["identity"] = values["bastion"]["identity"] or values["identity"]
        return values

    def place(self, name: str) -> dict[str, str]:
        """Return the location of a machine as far as the stack file has it: rack, zone, internal_address."""
        machine, defaults = self.machines[name], self.defaults
        location = {
            "rack": defaults.rack if machine.rack is None else machine.rack,
            "zone": defaults.zone if machine.zone is None else machine.zone,
            "internal_address": machine.internal_address,
        }
        return {key: value for key, value in location.items() if value}

    def gpus(self, name: str) -> int:
        """Return the number of the machine's GPUs."""
        own = self.machines[name].gpus
        return self.defaults.gpus if own is None else own


class Nodes(Reached):
    """Existing machines. `machines` may be the name of a file that lists them."""

    source: Literal["ssh"]
    machines: dict[Name, SshMachine] = Field(min_length=1)
