"""Machines of vendors as data: machines.yml, a row a machine, with what it says of itself and what is expected of it.

Owns the form of a row. Called by the tests of this folder and by `page`, which tells what a row says.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import pydantic

from fleet import preflight
from fleet.preflight import CheckResult
from tests.support import preflight_machines, rows

FILE = pathlib.Path(__file__).parents[1] / "vendors" / "machines.yml"
# Facts that are mappings and are taken as they stand: what is not named in them is not there.
WHOLE = ("images", "headers", "loader")


class Form(pydantic.BaseModel):
    """A mapping in which every key is known."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Run(Form):
    """What playbooks/host.yml leaves on the lab's node: `holds` are commands that go well, `stays` and `absent` patterns of packages."""

    reboots: int
    driver: str
    stays: list[str]
    absent: list[str]
    holds: list[str]


class Machine(Form):
    """One machine. `checks` are patterns of what the preflight says of the lab's node; without `run` no playbook is run there."""

    name: str
    about: str
    source: str
    facts: dict[str, Any]
    up: str
    checks: dict[str, str] = {}
    vars: dict[str, Any] = {}
    run: Run | None = None

    def look(self) -> preflight.Observation:
        """Return what such a machine says of itself."""
        facts = preflight_machines.healthy()
        for name, value in self.facts.items():
            merged = isinstance(value, Mapping) and name not in WHOLE
            facts[name] = {**facts[name], **value} if merged else value
        return preflight.Observation(facts, 0.2)

    def results(self) -> list[CheckResult]:
        """Return what the preflight says of it with the stack prod, where that is not what it says of a bare machine."""
        bare = preflight.check(preflight.Observation(preflight_machines.healthy(), 0.2), preflight_machines.wanted())
        return [result for result in preflight.check(self.look(), preflight_machines.wanted()) if result not in bare]


@functools.cache
def load() -> dict[str, Machine]:
    """Every machine by its name, in the order of the file."""
    return {machine.name: machine for machine in rows.read(FILE, Machine)}
