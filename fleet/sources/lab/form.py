"""The form of source `lab`: machines without machines. Used by `settings`; what is made of it is in fleet/sources/lab/machines.py."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from fleet.schema import Gpus, Name
from fleet.sources.pool import Member, Pool


class LabMachine(Member):
    """One lab node: which system, and how many stand-in GPUs it shows."""

    system: Literal["ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "debian-12", "debian-13"]
    gpus: Gpus = 8


class Nodes(Pool):
    """Machines that the lab makes. `name` tells one lab on a machine from another (default: the stack's name).

    Those of a `sealed` one reach nothing but its site: as in a machine room whose mirrors are its only way out.
    """

    PROTECTED: ClassVar[bool] = False
    BRINGS: ClassVar[bool] = True
    # Its containers share cgroups, kernel, memory and disks of this machine, and need no server of the internet.
    USUAL: ClassVar[tuple[str, ...]] = ("system", "kernel", "memory", "NVMe", "network")

    source: Literal["lab"]
    name: Name | Literal[""] = ""
    sealed: bool = False
    machines: dict[Name, LabMachine] = Field(min_length=1)

    @property
    def members(self) -> Mapping[str, LabMachine]:
        """The machines by name."""
        return self.machines

    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine shows."""
        return self.machines[name].gpus
