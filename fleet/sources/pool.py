"""Form that all node sources share: a pool of machines by name, each with its state and its own variables.

Used by form.py of each source and by fleet.stack.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fleet.schema import Form

State = Literal["active", "drain", "absent"]


class Member(Form):
    """Keys of a machine in every source: its own role variables, and its state in the fleet.

    A machine that drains stays set up and serves nothing; an absent one stays in the file only, after a teardown.
    """

    vars: dict[str, Any] = {}
    state: State = "active"


class Pool(Form):
    """Machines of one source. `builder` names the machine that builds the image for all (default: the first)."""

    # Whether Pulumi refuses to replace or delete a machine.
    PROTECTED: ClassVar[bool] = True
    # Secrets of the stack that the source needs, and what each is.
    SECRETS: ClassVar[Mapping[str, str]] = {}
    # The Python package that only machines.py of the source needs; "" for none.
    SDK: ClassVar[str] = ""
    # Whether the source supplies role variables that the stack file cannot know.
    SUPPLIES_VARS: ClassVar[bool] = False
    # Preflight checks that warn on every machine of this source.
    EXPECTED_WARNINGS: ClassVar[tuple[str, ...]] = ()

    source: str
    builder: str = ""

    if TYPE_CHECKING:  # the field is in each source's own form
        machines: Mapping[str, Member]

    @property
    def present(self) -> list[str]:
        """The machines that are part of the fleet, in the order of the file."""
        return [name for name, machine in self.machines.items() if machine.state != "absent"]

    @abstractmethod
    def gpus(self, name: str) -> int:
        """Return the number of the machine's GPUs."""

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key below `machines`, seen, allowed) for each mistake that involves several keys."""
        yield from ()

    def disk(self, name: str) -> tuple[int, bool] | None:
        """Return the GB of the system disk, and whether the stack file sets them; None where only the machine knows."""
        return None

    def place(self, name: str) -> dict[str, str]:
        """Return the location of a machine as far as the stack file has it: rack, zone, internal_address."""
        return {}
