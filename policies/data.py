"""The dated facts of policies/data/*.yml, read once per run. Used by rules/ and docs."""

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
class Vulnerability:
    """A known vulnerability of vLLM: present from version `since` (default: the first) to before `fixed`, `only` under a condition."""

    id: str
    what: str
    fixed: str
    source: str
    since: str = "0"
    only: str = ""
    path: str = ""


@dataclass(frozen=True)
class Private:
    """A folder that no client may read, with every folder above it and, with `below`, everything in it."""

    path: str
    why: str
    below: bool = True


@dataclass(frozen=True)
class Driver:
    """A release of AMD's driver, its package build, and the ROCm release that AMD pins with it."""

    driver: str
    build: str
    rocm: str


@functools.cache
def vulnerabilities() -> Sequence[Vulnerability]:
    """Return the known vulnerabilities of vLLM."""
    return [Vulnerability(**entry) for entry in read("cves")["vulnerabilities"]]


def vulnerabilities_checked() -> datetime.date:
    """Return the day on which a person last compared the vulnerabilities with their sources."""
    return datetime.date.fromisoformat(read("cves")["checked"])


@functools.cache
def private() -> Sequence[Private]:
    """Return the folders that no media path may open."""
    return [Private(**entry) for entry in read("private_paths")["paths"]]


@functools.cache
def drivers() -> Sequence[Driver]:
    """Return the known pairs of driver and ROCm."""
    return [Driver(**entry) for entry in models.read("versions")["drivers"]]


def systems(rocm: str) -> Mapping[str, Sequence[str]]:
    """Return {system: kernels} that AMD lists for a ROCm release: no kernels where AMD names none, {} where no list is known."""
    kernels: Mapping[str, Sequence[str]] = models.read("versions")["systems"].get(rocm, {})
    return kernels


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return one file's content. Its `checked` is the day on which a person last compared it with its sources."""
    content: Mapping[str, Any] = yaml.safe_load((DATA / f"{name}.yml").read_text())
    return content
