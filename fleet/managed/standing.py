"""How a node stands in rotation: one word for each case, which rotation.py derives from what the node reports. Pure."""

from enum import StrEnum


class Standing(StrEnum):
    """What a census says about a node."""

    SERVES = "serves"
    NOTHING = "serves nothing"  # not set up yet, or without replicas
    BROKEN = "has no healthy replica"
    UNREACHED = "is reached by no gateway"
    UNFINISHED = "was left drained by an earlier run"
    DRAINED = "is drained by an operator"
    DEAD = "does not answer"

    @property
    def out(self) -> bool:
        """Return whether the node is out of service."""
        return self not in (Standing.SERVES, Standing.NOTHING)
