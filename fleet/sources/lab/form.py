"""Form of the source `lab` in a stack file: containers as nodes. Used by sources.forms; fleet/sources/lab/machines.py creates them."""

from typing import ClassVar, Literal

from pydantic import Field

from fleet.schema import Gpus, Name
from fleet.sources.pool import Member, Pool


class LabMachine(Member):
    """One lab node: its operating system and the number of its stand-in GPUs."""

    system: Literal["ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "debian-12", "debian-13"]
    gpus: Gpus = 8


class Nodes(Pool):
    """Machines of a lab. `name` distinguishes the labs of one machine (default: the stack's name).

    The nodes of a `sealed` lab reach only its site, as in a machine room without internet.
    """

    PROTECTED: ClassVar[bool] = False
    SUPPLIES_VARS: ClassVar[bool] = True
    # The containers share cgroups, kernel, memory and disks of this machine, and need no server on the internet.
    EXPECTED_WARNINGS: ClassVar[tuple[str, ...]] = ("system", "kernel", "memory", "NVMe", "network")

    source: Literal["lab"]
    name: Name | Literal[""] = ""
    sealed: bool = False
    machines: dict[Name, LabMachine] = Field(min_length=1)

    def gpus(self, name: str) -> int:
        """Return the number of the machine's stand-in GPUs."""
        return self.machines[name].gpus
