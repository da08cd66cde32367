"""Machines of vendors as data: machines.yml, a row a machine, with its facts and the expected results.

Owns the form of a row. Called by tests/vendors and its `page`, which prints the rows.
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
# Facts that are mappings and replace the whole default.
WHOLE = ("images", "headers", "loader")


class Form(pydantic.BaseModel):
    """A mapping in which every key is known."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Run(Form):
    """The lab's node after playbooks/host.yml: `holds` are commands that succeed, `stays` and `absent` patterns of packages."""

    reboots: int
    driver: str
    stays: list[str]
    absent: list[str]
    holds: list[str]


class Machine(Form):
    """One machine. `checks` are patterns of the preflight's results on the lab's node; without `run` no playbook runs there."""

    name: str
    about: str
    source: str
    facts: dict[str, Any]
    up: str
    checks: dict[str, str] = {}
    vars: dict[str, Any] = {}
    run: Run | None = None

    def look(self) -> preflight.Observation:
        """Return the facts of such a machine."""
        facts = preflight_machines.healthy()
        for name, value in self.facts.items():
            merged = isinstance(value, Mapping) and name not in WHOLE
            facts[name] = {**facts[name], **value} if merged else value
        return preflight.Observation(facts, 0.2)

    def results(self) -> list[CheckResult]:
        """Return the preflight's results for it with the stack prod, where they differ from those of a bare machine."""
        bare = preflight.check(
            preflight.Observation(preflight_machines.healthy(), 0.2), preflight_machines.prod_requirements()
        )
        return [
            result
            for result in preflight.check(self.look(), preflight_machines.prod_requirements())
            if result not in bare
        ]


@functools.cache
def load() -> dict[str, Machine]:
    """Return every machine by its name, in the order of the file."""
    return {machine.name: machine for machine in rows.read(FILE, Machine)}
