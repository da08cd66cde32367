"""The dated facts that rules judge by, as policies/data/*.yml has them. Read once a run. Used by rules/ and docs."""

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet.stack.rules import models

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Hole:
    """A known hole of vLLM: open from version `since` (none: the first) until before `fixed`, `only` under a condition."""

    id: str
    what: str
    fixed: str
    source: str
    since: str = "0"
    only: str = ""
    path: str = ""


@dataclass(frozen=True)
class Private:
    """A folder that no client may read: it, what is above it, and with `below` what is in it."""

    path: str
    why: str
    below: bool = True


@dataclass(frozen=True)
class Driver:
    """A release of AMD's driver, the build that it is, and the ROCm that AMD pins with it."""

    driver: str
    build: str
    rocm: str


@functools.cache
def holes() -> Sequence[Hole]:
    """The known holes of vLLM."""
    return [Hole(**told) for told in read("cves")["holes"]]


def checked() -> datetime.date:
    """Return the day on which somebody last compared the known holes with their sources."""
    return datetime.date.fromisoformat(read("cves")["checked"])


@functools.cache
def private() -> Sequence[Private]:
    """The folders that no media path may open."""
    return [Private(**told) for told in read("private_paths")["paths"]]


@functools.cache
def drivers() -> Sequence[Driver]:
    """The known tuples of driver and ROCm."""
    return [Driver(**told) for told in models.read("versions")["drivers"]]


def systems(rocm: str) -> Mapping[str, Sequence[str]]:
    """Return {system: kernels, [] where AMD names none} that AMD lists for a ROCm release; {} where we know of no list."""
    found: Mapping[str, Sequence[str]] = models.read("versions")["systems"].get(rocm, {})
    return found


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return one file as it stands; `checked` in it is the day on which somebody last compared it with its sources."""
    told: Mapping[str, Any] = yaml.safe_load((DATA / f"{name}.yml").read_text())
    return told
