"""The matrix as data: one file in scenarios/ a scenario, in the order in which a node goes through them; each holds on every system.

Owns the form of such a file. Called by the tests of this folder, which do what it says, and by `page`, which tells what it says.
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
    """What must be seen afterwards. `changed`: some, none, or the names of exactly the tasks that changed something."""

    changed: Literal["some", "none"] | list[str]
    reboots: int
    absent: list[str] = []  # paths
    answers: list[str] = []  # commands that go well
    active: list[str] = []  # units, which must also start with the host
    arguments: list[str] = []  # words of the running kernel's command line
    restarted: list[str] = []  # units that were active before, too
    gpus: int | None = None
    driver: str | None = None  # srcversion of the loaded module
    reached: list[
        int
    ] = []  # all ports on which a neighbour with a route to the node's containers gets a connection; [] is not asked


class Scenario(Form):
    """`after` names the scenario that a node must have gone through; `vars` hold from then on. None means a bare node."""

    name: str
    about: str
    after: str = ""
    vars: dict[str, Any] = {}
    reboot: bool = False
    runs: list[Run] = []
    again: bool = False  # all runs once more, which must change nothing
    expect: Expected | None = None
    by: str = "test_matrix.py"
    make_test: list[str]  # the systems on which `make test` goes through it; `make test-all` takes all of them

    def chain(self) -> list["Scenario"]:
        """What is done on a bare node, in order, up to this one."""
        return [*(load()[self.after].chain() if self.after else []), self]


@functools.cache
def load() -> dict[str, Scenario]:
    """Every scenario by its name, which is its file's without the number."""
    scenarios: dict[str, Scenario] = {}
    for file in sorted(FOLDER.glob("*.yml")):
        name = file.stem.partition("-")[2]
        scenarios[name] = rows.row(file, Scenario, {"name": name, **yaml.safe_load(file.read_text())})
    return scenarios


def cells(by: str) -> list[tuple[str, str, bool]]:
    """(system, scenario, whether `make test` has it) of those that one file of tests goes through, node by node."""
    scenarios = [scenario for scenario in load().values() if scenario.by == by]
    return [(system, scenario.name, system in scenario.make_test) for system in SYSTEMS for scenario in scenarios]
