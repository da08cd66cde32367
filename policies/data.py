"""The dated facts that rules judge by, as policies/data/*.yml has them. Read once a run. Used by rules/ and docs."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data")
# What a plan is judged by too stands with its rules.
VERSIONS = Path(__file__).resolve().parents[1] / "fleet" / "plan" / "rules" / "data" / "versions.yml"


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


@functools.cache
def private() -> Sequence[Private]:
    """The folders that no media path may open."""
    return [Private(**told) for told in read("private_paths")["paths"]]


@functools.cache
def drivers() -> Sequence[Driver]:
    """The known tuples of driver and ROCm."""
    return [Driver(**told) for told in versions()["drivers"]]


def systems(rocm: str) -> Mapping[str, Sequence[str]]:
    """Return {system: kernels, [] where AMD names none} that AMD lists for a ROCm release; {} where we know of no list."""
    found: Mapping[str, Sequence[str]] = versions()["systems"].get(rocm, {})
    return found


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return one file as it stands; `checked` in it is the day on which somebody last compared it with its sources."""
    return _yaml(DATA / f"{name}.yml")


@functools.cache
def versions() -> Mapping[str, Any]:
    """Return what works together, as it stands; `checked` as above."""
    return _yaml(VERSIONS)


def _yaml(file: Path) -> Mapping[str, Any]:
    told: Mapping[str, Any] = yaml.safe_load(file.read_text())
    return told
