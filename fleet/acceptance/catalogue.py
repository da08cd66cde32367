"""The benchmarks and their thresholds as mi300x.yml has them, with the commands that a stack puts in place of ours.

Owns the form of that file. Opens no connection. Called by `run`, `evaluate`, `page` and the tests.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from fleet import errors
from fleet.stack import settings

FILE = Path(__file__).with_name("mi300x.yml")


class _Data(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Test(_Data):
    """One threshold: `pattern` finds `each` x `best_of` figures; of `best_of` beside each other the best counts, of `each` the worst."""

    __test__ = False  # for pytest, which takes the name for its own

    name: str
    what: str
    unit: str
    at_least: float = pydantic.Field(gt=0)
    pattern: str
    each: int = pydantic.Field(default=1, ge=1)
    best_of: int = pydantic.Field(default=1, ge=1)

    @pydantic.field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        if re.compile(pattern).groups != 1:
            raise ValueError("a pattern has one group, the figure")
        return pattern


class Benchmark(_Data):
    """One container: `command` in it, ended after `timeout` seconds; its tests evaluate what it prints."""

    name: str
    tool: str
    command: Sequence[str] = pydantic.Field(min_length=1)
    timeout: int = pydantic.Field(gt=0)
    source: str
    tests: Sequence[Test] = pydantic.Field(min_length=1)


class Holds(_Data):
    """The machines for which the thresholds hold; `devices` are PCI device ids."""

    product: str
    gpus: int
    devices: Sequence[int]


class Catalogue(_Data):
    """The whole file. `checked` is the day on which it was compared with `guide`, `options` are of `docker run`."""

    checked: str
    guide: str
    holds: Holds
    options: Sequence[str]
    benchmarks: Sequence[Benchmark]


def load(commands: Mapping[str, Sequence[str]] | None = None) -> Catalogue:
    """Return the catalogue, with these commands in place of its own; FleetError for one of a benchmark that it does not have."""
    found = Catalogue.model_validate(yaml.safe_load(FILE.read_text()))
    known = [one.name for one in found.benchmarks]
    for name in commands or ():
        if name not in known:
            near = settings.nearest(name, known)
            raise errors.FleetError(
                doing=f"read acceptance.commands.{name} of the stack file",
                seen="no such benchmark",
                wanted=", ".join(known),
                next=f"did you mean {near}?" if near else "",
            )
    own: dict[str, Any] = {name: {"command": list(command)} for name, command in (commands or {}).items()}
    return found.model_copy(
        update={"benchmarks": [one.model_copy(update=own.get(one.name, {})) for one in found.benchmarks]}
    )
