"""The matrix as data: one file in scenarios/ a scenario, in a node's order; each holds on every system.

Owns the form of such a file. Called by tests/matrix, which plays the scenarios, and by its `page`, which prints them.
"""

import functools
import pathlib
from typing import Any, Literal

import pydantic
import yaml

from lab.images import node
from tests.support import rows

FOLDER = pathlib.Path(__file__).parents[1] / "matrix" / "scenarios"
SYSTEMS = tuple(node.SUITES)


class Form(pydantic.BaseModel):
    """A mapping in which every key is known."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Run(Form):
    """One run of a playbook."""

    book: Literal["host", "image", "weights", "serving"]
    check: bool = False


class Expected(Form):
    """The node afterwards. `changed`: some, none, or the names of exactly the tasks that changed something."""

    changed: Literal["some", "none"] | list[str]
    reboots: int
    absent: list[str] = []  # paths
    answers: list[str] = []  # commands that succeed
    active: list[str] = []  # units, which must also start with the host
    arguments: list[str] = []  # words of the running kernel's command line
    restarted: list[str] = []  # units that were active before, too
    gpus: int | None = None
    driver: str | None = None  # srcversion of the loaded module
    reached: list[int] = []  # all ports on which a neighbour with a route to the node's containers gets a connection


class Scenario(Form):
    """`after` names the scenario that the node needs first (none: a bare node); `vars` hold from then on."""

    name: str
    about: str
    after: str = ""
    vars: dict[str, Any] = {}
    reboot: bool = False
    runs: list[Run] = []
    again: bool = False  # all runs once more, which must change nothing
    expect: Expected | None = None
    by: str = "test_matrix.py"
    make_test: list[str]  # the systems on which `make test` plays it; `make test-all` uses all of them

    def chain(self) -> list["Scenario"]:
        """Return the scenarios from a bare node to this one, in order."""
        return [*(load()[self.after].chain() if self.after else []), self]


@functools.cache
def load() -> dict[str, Scenario]:
    """Return every scenario by its name, its file's without the number."""
    scenarios: dict[str, Scenario] = {}
    for file in sorted(FOLDER.glob("*.yml")):
        name = file.stem.partition("-")[2]
        scenarios[name] = rows.row(file, Scenario, {"name": name, **yaml.safe_load(file.read_text())})
    return scenarios


def cells(by: str) -> list[tuple[str, str, bool]]:
    """Return (system, scenario, whether `make test` plays it) for one test file, node by node."""
    scenarios = [scenario for scenario in load().values() if scenario.by == by]
    return [(system, scenario.name, system in scenario.make_test) for system in SYSTEMS for scenario in scenarios]
