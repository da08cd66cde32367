"""The benchmarks and thresholds of mi300x.yml, with the commands that a stack sets instead.

Owns the form of that file. Opens no connection. Called by fleet.cli.accept, evaluate, page and the tests.
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
    """One threshold. `pattern` finds `each` x `best_of` figures: the best of each `best_of` in a row counts, and of these the worst."""

    __test__ = False  # pytest would collect a class of this name

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
    """One container. It runs `command` for at most `timeout` seconds; its tests read the output."""

    name: str
    tool: str
    command: Sequence[str] = pydantic.Field(min_length=1)
    timeout: int = pydantic.Field(gt=0)
    source: str
    tests: Sequence[Test] = pydantic.Field(min_length=1)


class Holds(_Data):
    """The machines that the thresholds are for; `devices` are PCI device ids."""

    product: str
    gpus: int
    devices: Sequence[int]


class Catalogue(_Data):
    """The whole file. `checked` is the day of the comparison with `guide`, `options` are options of `docker run`."""

    checked: str
    guide: str
    holds: Holds
    options: Sequence[str]
    benchmarks: Sequence[Benchmark]


def load(commands: Mapping[str, Sequence[str]] | None = None) -> Catalogue:
    """Return the catalogue with these commands, by name of a benchmark. Raises FleetError for an unknown name."""
    catalogue = Catalogue.model_validate(yaml.safe_load(FILE.read_text()))
    names = [benchmark.name for benchmark in catalogue.benchmarks]
    for name in commands or ():
        if name not in names:
            near = settings.nearest(name, names)
            raise errors.FleetError(
                doing=f"read acceptance.commands.{name} of the stack file",
                seen="no such benchmark",
                wanted=", ".join(names),
                next=f"did you mean {near}?" if near else "",
            )
    updates: dict[str, Any] = {name: {"command": list(command)} for name, command in (commands or {}).items()}
    benchmarks = [item.model_copy(update=updates.get(item.name, {})) for item in catalogue.benchmarks]
    return catalogue.model_copy(update={"benchmarks": benchmarks})
