"""The types of the preflight: requirements of a machine, an observation of it, a check's result. __init__ exports them."""

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fleet import ssh
from fleet.findings import Finding, Level, Waiver

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """Bytes for the content `what` that a path's disk must have free, unless the file `filled` exists. `label`: the path in a result."""

    path: str
    bytes: int
    what: str
    filled: str = ""
    label: str = ""


@dataclass(frozen=True)
class Filesystem:
    """An entry of host_filesystems: a disk by serial, the type of its file system, and the path where it is mounted."""

    serial: str
    path: str
    type: str

    def holds(self, path: str) -> bool:
        """Whether the file system contains a path."""
        return f"{path}/".startswith(f"{self.path}/")


@dataclass(frozen=True)
class Release:
    """A known ROCm release with its driver, and AMD's list of kernels for it by system; empty where no list was available."""

    rocm: str
    driver: str
    kernels: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Requirements:
    """The stack's requirements of one machine.

    `stack`: the future owner, [[ORGANIZATION/]PROJECT/]STACK. `serves`: it has GPUs and replicas. `ports`: of the replicas, each with its unit. `addresses`: "host:port" that roles
    use from this machine. `kernels`: starts of `uname -r` that are known to work, by system. `firmware`: GPU bundles that work, and any later
    than the last. `driver_release`, `driver_packages`: the stack's. `releases`: the known releases, for advice. `loaders`: vendors' units that
    may load the driver. `repositories`: URLs of AMD's packages in the stack. `expected_warnings`: checks that warn on every machine of this
    source. `waivers`: the stack's, by a result's name.
    """

    target: ssh.Target
    stack: str
    serves: bool = True
    gpus: int = 8
    driver: bool = True
    driver_release: str = ""
    driver_packages: Sequence[str] = ()
    adopts_driver: bool = False
    docker_packages: Sequence[str] = ()
    oldest_docker: str = ""
    adopts_docker: bool = True
    loaders: Sequence[str] = ()
    repositories: Sequence[str] = ()
    releases: Sequence[Release] = ()
    kernels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    firmware: Sequence[str] = ()
    arguments: Sequence[str] = ()
    ports: Mapping[int, str] = field(default_factory=dict)
    addresses: Sequence[str] = ()
    space: Sequence[Space] = ()
    filesystems: Sequence[Filesystem] = ()
    expected_warnings: Sequence[str] = ()
    waivers: Mapping[str, Waiver] = field(default_factory=dict)

    @classmethod
    def from_plan(cls, target: ssh.Target, plan: Mapping[str, Any]) -> "Requirements":
        """Return the requirements from their JSON (fleet.stack.requirements)."""
        known = {field.name: plan[field.name] for field in dataclasses.fields(cls) if field.name in plan}
        typed: dict[str, Any] = {
            "releases": [Release(**entry) for entry in plan.get("releases", ())],
            "ports": {int(port): unit for port, unit in plan["ports"].items()},
            "space": [Space(**entry) for entry in plan["space"]],
            "filesystems": [Filesystem(**entry) for entry in plan.get("filesystems", ())],
            "expected_warnings": plan["usual"],
            "waivers": {
                name: Waiver(entry["reason"], datetime.date.fromisoformat(entry["expires"]))
                for name, entry in plan["waivers"].items()
            },
        }
        return cls(target, **{**known, **typed})


@dataclass(frozen=True, kw_only=True)
class CheckResult(Finding):
    """The result of one check: ok, a warning that stops nothing, or an error that stops the run on this machine."""

    check: str
    level: Level | Literal["ok"]

    @property
    def name(self) -> str:
        """The name by which a stack waives the check."""
        return f"preflight-{re.sub('[^a-z0-9]+', '-', self.check.lower())}"


def ok(check: str, seen: str) -> CheckResult:
    """Return a result without a finding."""
    return CheckResult(seen, check=check, level="ok")


def warning(check: str, seen: str, wanted: str, next: str) -> CheckResult:
    """Return a result that stops nothing."""
    return CheckResult(seen, wanted, next, check=check, level="warning")


def error(check: str, seen: str, wanted: str, next: str) -> CheckResult:
    """Return a result that stops the run on this machine."""
    return CheckResult(seen, wanted, next, check=check, level="error")


@dataclass(frozen=True)
class Observation:
    """The facts of a machine, and the seconds by which its clock is ahead of this machine's."""

    facts: Facts
    clock_ahead: float


Check = Callable[[Observation, Requirements], Iterator[CheckResult]]
