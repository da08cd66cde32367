"""The forms of the preflight: what a plan wants of a machine, what the machine said, what a check says of the two."""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fleet import ssh

Level = Literal["ok", "warning", "fault"]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """Bytes that must be free where a path lies, but where `filled` is there already: then what needs them has been fetched. `shown` is the path as a verdict has it."""

    path: str
    bytes: int
    what: str
    filled: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Filesystem:
    """A disk by its serial, the type of the file system that is made there, and where that is mounted (host_filesystems)."""

    serial: str
    path: str
    type: str

    def holds(self, path: str) -> bool:
        """Whether a path lies on it."""
        return f"{path}/".startswith(f"{self.path}/")


@dataclass(frozen=True)
class Waiver:
    """Why a check does not stop a stack, and the last day on which that holds."""

    reason: str
    expires: datetime.date


@dataclass(frozen=True)
class Release:
    """A known release of ROCm with its driver, and the kernels that AMD lists for it by system; () where no list was at hand."""

    rocm: str
    driver: str
    kernels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Wanted:
    """What the plan wants of one machine.

    `ports` are the replicas', each with its unit; `addresses` are "host:port" that roles on this machine ask; `kernels` the
    beginnings of `uname -r` that are known to work, by system; `firmware` the GPUs' bundles that do (of the last: it and later ones); `stack` is who will own the machine, [[ORGANIZATION/]PROJECT/]STACK.
    `driver_release` and `driver_packages` are those that the stack names; `releases` what each known release supports, for the advice.
    `loaders` are units of vendors that may load the driver; `repositories` AMD's, as the plan has them.
    `usual` are checks whose warnings are so of every machine of its source; `waivers` are the stack's, by name of the verdict.
    """

    target: ssh.Target
    stack: str
    gpus: int = 8
    driver: bool = True
    driver_release: str = ""
    driver_packages: tuple[str, ...] = ()
    adopts_driver: bool = False
    docker_packages: tuple[str, ...] = ()
    oldest_docker: str = ""
    adopts_docker: bool = True
    loaders: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    releases: tuple[Release, ...] = ()
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    firmware: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    ports: Mapping[int, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    space: tuple[Space, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    usual: tuple[str, ...] = ()
    waivers: Mapping[str, Waiver] = field(default_factory=dict)

    @classmethod
    def from_plan(cls, target: ssh.Target, told: Mapping[str, Any]) -> "Wanted":
        """Build from the plan's JSON (fleet.stack.requirements)."""
        return cls(
            target=target,
            stack=str(told["stack"]),
            gpus=int(told["gpus"]),
            driver=bool(told["driver"]),
            driver_release=str(told.get("driver_release", "")),
            driver_packages=tuple(told.get("driver_packages", ())),
            adopts_driver=bool(told.get("adopts_driver", False)),
            docker_packages=tuple(told.get("docker_packages", ())),
            oldest_docker=str(told.get("oldest_docker", "")),
            adopts_docker=bool(told.get("adopts_docker", True)),
            loaders=tuple(told.get("loaders", ())),
            repositories=tuple(told.get("repositories", ())),
            releases=tuple(
                Release(one["rocm"], one["driver"], {name: tuple(some) for name, some in one["kernels"].items()})
                for one in told.get("releases", ())
            ),
            kernels={system: tuple(kernels) for system, kernels in told["kernels"].items()},
            firmware=tuple(told["firmware"]),
            arguments=tuple(told["arguments"]),
            ports={int(port): unit for port, unit in told["ports"].items()},
            addresses=tuple(told["addresses"]),
            space=tuple(Space(**one) for one in told["space"]),
            filesystems=tuple(Filesystem(**one) for one in told.get("filesystems", ())),
            usual=tuple(told["usual"]),
            waivers={
                name: Waiver(one["reason"], datetime.date.fromisoformat(one["expires"]))
                for name, one in told["waivers"].items()
            },
        )


@dataclass(frozen=True)
class Verdict:
    """What one check says: `ok`, a `warning` that may be lived with, or a `fault` that stops the road on this machine."""

    check: str
    level: Level
    seen: str
    wanted: str = ""
    next: str = ""

    @property
    def name(self) -> str:
        """The name by which a stack waives the check."""
        return f"preflight-{re.sub('[^a-z0-9]+', '-', self.check.lower())}"


@dataclass(frozen=True)
class Look:
    """What a machine said, and by how many seconds its clock is ahead of this one's."""

    facts: Facts
    ahead: float


Check = Callable[[Look, Wanted], Iterator[Verdict]]
