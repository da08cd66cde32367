"""The forms of the preflight: what a plan requires of a machine, what the machine said, what a check says of the two."""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fleet import ssh
from fleet.findings import Finding, Level, Waiver

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """Bytes that must be free where a path lies, but where `filled` is there already: then what needs them has been fetched. `shown` is the path as a result has it."""

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
class Release:
    """A known release of ROCm with its driver, and the kernels that AMD lists for it by system; () where no list was at hand."""

    rocm: str
    driver: str
    kernels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Requirements:
    """What the plan requires of one machine.

    `ports` are the replicas', each with its unit; `addresses` are "host:port" that roles on this machine ask; `kernels` the
    beginnings of `uname -r` that are known to work, by system; `firmware` the GPUs' bundles that do (of the last: it and later ones); `stack` is who will own the machine, [[ORGANIZATION/]PROJECT/]STACK.
    `driver_release` and `driver_packages` are those that the stack names; `releases` what each known release supports, for the advice.
    `loaders` are units of vendors that may load the driver; `repositories` AMD's, as the plan has them.
    `usual` are checks whose warnings are so of every machine of its source; `waivers` are the stack's, by name of the result.
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
    def from_plan(cls, target: ssh.Target, plan: Mapping[str, Any]) -> "Requirements":
        """Build from the plan's JSON (fleet.stack.requirements)."""
        return cls(
            target=target,
            stack=str(plan["stack"]),
            gpus=int(plan["gpus"]),
            driver=bool(plan["driver"]),
            driver_release=str(plan.get("driver_release", "")),
            driver_packages=tuple(plan.get("driver_packages", ())),
            adopts_driver=bool(plan.get("adopts_driver", False)),
            docker_packages=tuple(plan.get("docker_packages", ())),
            oldest_docker=str(plan.get("oldest_docker", "")),
            adopts_docker=bool(plan.get("adopts_docker", True)),
            loaders=tuple(plan.get("loaders", ())),
            repositories=tuple(plan.get("repositories", ())),
            releases=tuple(
                Release(one["rocm"], one["driver"], {name: tuple(some) for name, some in one["kernels"].items()})
                for one in plan.get("releases", ())
            ),
            kernels={system: tuple(kernels) for system, kernels in plan["kernels"].items()},
            firmware=tuple(plan["firmware"]),
            arguments=tuple(plan["arguments"]),
            ports={int(port): unit for port, unit in plan["ports"].items()},
            addresses=tuple(plan["addresses"]),
            space=tuple(Space(**one) for one in plan["space"]),
            filesystems=tuple(Filesystem(**one) for one in plan.get("filesystems", ())),
            usual=tuple(plan["usual"]),
            waivers={
                name: Waiver(one["reason"], datetime.date.fromisoformat(one["expires"]))
                for name, one in plan["waivers"].items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class CheckResult(Finding):
    """The result of one check: ok; a warning, which stops nothing; or an error, which stops the run on this machine."""

    check: str
    level: Level | Literal["ok"]

    @property
    def name(self) -> str:
        """The name by which a stack waives the check."""
        return f"preflight-{re.sub('[^a-z0-9]+', '-', self.check.lower())}"


def ok(check: str, seen: str) -> CheckResult:
    """Return the result of a check that finds nothing wrong."""
    return CheckResult(seen, check=check, level="ok")


def warning(check: str, seen: str, wanted: str, next: str) -> CheckResult:
    """Return a result that stops nothing."""
    return CheckResult(seen, wanted, next, check=check, level="warning")


def error(check: str, seen: str, wanted: str, next: str) -> CheckResult:
    """Return a result that stops the run on this machine."""
    return CheckResult(seen, wanted, next, check=check, level="error")


@dataclass(frozen=True)
class Look:
    """What a machine said, and by how many seconds its clock is ahead of this one's."""

    facts: Facts
    ahead: float


Check = Callable[[Look, Requirements], Iterator[CheckResult]]
