"""The forms of the preflight: what a plan wants of a machine, what the machine said, what a check says of the two."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fleet.machine import ssh

Level = Literal["ok", "warning", "fault"]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """Bytes that must be free where a path lies, but where `filled` is there already: then what needs them has been fetched."""

    path: str
    bytes: int
    what: str
    filled: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the plan wants of one machine.

    `ports` are the replicas', each with its unit; `addresses` are "host:port" that roles on this machine ask; `kernels` the
    beginnings of `uname -r` that are known to work, by system; `stack` is who will own the machine.
    """

    target: ssh.Target
    stack: str
    gpus: int = 8
    driver: bool = True
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    ports: Mapping[int, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    space: tuple[Space, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What one check says: `ok`, a `warning` that may be lived with, or a `fault` that stops the road on this machine."""

    check: str
    level: Level
    seen: str
    wanted: str = ""
    next: str = ""


@dataclass(frozen=True)
class Look:
    """What a machine said, and by how many seconds its clock is ahead of this one's."""

    facts: Facts
    ahead: float


Check = Callable[[Look, Wanted], Iterator[Verdict]]
