"""What the forms of all node sources share: a pool of machines by name, each with its state and its own variables.

Used by the form of each source beside this file.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from fleet.schema import Form

State = Literal["active", "drain", "absent"]


class Member(Form):
    """What a machine of every source has: its own role variables, and whether it is part of the fleet.

    One that drains stays set up and serves nothing; an absent one stays in the file, and what we put on it is taken off.
    """

    vars: dict[str, Any] = {}
    state: State = "active"


class Pool(Form):
    """Machines of one source. `builder` names the one that builds the image when one serves all (default: the first)."""

    # Whether Pulumi refuses to replace or delete a machine.
    PROTECTED: ClassVar[bool] = True
    # Secrets of the stack that the source needs, and for what.
    SECRETS: ClassVar[Mapping[str, str]] = {}
    # The Python package that machines.py of the source needs and no other part does; "" where it needs none.
    SDK: ClassVar[str] = ""
    # Whether the source brings role variables that the stack file cannot know.
    BRINGS: ClassVar[bool] = False
    # The preflight's checks whose warnings are so of every machine of the source.
    USUAL: ClassVar[tuple[str, ...]] = ()

    source: str
    builder: str = ""

    @property
    @abstractmethod
    def members(self) -> Mapping[str, Member]:
        """The machines by name."""

    @property
    def present(self) -> list[str]:
        """The machines that are part of the fleet, in the order of the file."""
        return [name for name, machine in self.members.items() if machine.state != "absent"]

    @abstractmethod
    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine has."""

    def wrong(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key below `machines`, what is seen, what is allowed) of what no single key shows."""
        yield from ()

    def disk(self, name: str) -> tuple[int, bool] | None:
        """Return the GB of the system's disk, and whether the stack file names them; None where only the machine knows."""
        return None

    def place(self, name: str) -> dict[str, str]:
        """Return where a machine stands, as far as the stack says it: rack, zone, internal_address."""
        return {}
