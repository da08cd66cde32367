"""The faults as data: table/*.yml, a row a fault. Each happens to a converged stack of two nodes and leaves it converged.

Owns the form of a row. Called by `inject`, which does what a row says, by the tests and by `page`, which prints it. A row with `tested` is only
for the page: other tests have that fault.
Text in a row may hold {lab} (the lab's name), {n} (a number that no row had before it), {revision} and {untrained} (the hub's), and
{untrained FILE} (the sha256 of a file of the latter).
"""

import functools
import pathlib
from typing import Annotated, Any, Literal

import pydantic
import yaml

from tests.support import rows as table_rows

FOLDER = pathlib.Path(__file__).parents[1] / "faults" / "table"

# Shell commands by where they run: on a node (through the lab's engine, as root), on the lab's site, or here (in the project's folder).
Commands = dict[Literal["glm-1", "glm-2", "site", "here"], str]
# Role variables by machine, `all` for the whole stack; null removes one.
Variables = dict[Literal["glm-1", "glm-2", "all"], dict[str, Any]]


def _flat(lists: Any) -> Any:
    """Return the entries of a list, and of the lists in it: an alias of YAML is a list."""
    return [entry for part in lists for entry in (part if isinstance(part, list) else [part])]


def _listed(tests: Any) -> Any:
    return [tests] if isinstance(tests, str) else tests


class Fault(pydantic.BaseModel):
    """One row. After the fault the run prints `message` once, `holds` succeeds, and the other node has finished `other`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    fault: str
    node: Literal["glm-1", "glm-2"] = "glm-2"  # the faulty one
    usual: bool = False  # `make test` injects it, in the stack of tests/e2e; `make test-all` the others, in another one
    set: Variables = {}  # gives the run something to do; a machine's own are removed again
    prepare: Commands = {}  # before the run
    run: Literal["up", "preview", "preview --refresh", "bootstrap/up.sh lab", "fleet show -s lab"] = "up"
    when: str = ""  # text of the run's output, or of the node's log of it, that starts the fault; "" = before the run
    breaks: Commands = {}
    message: str  # as the run prints it; `*` is any text of one line, a line `…` any lines
    ends: Literal["badly", "well"] = "badly"
    again: str = ""  # what a second run prints where nothing was repaired
    other: str = ""  # the kind of resource whose run on the other node succeeded meanwhile
    holds: Commands = {}  # succeed after the run
    repair: Commands = {}
    correct: Variables = {}
    after: Commands = {}  # succeed once the next `up` has converged
    todo: str = ""  # for the page, where the message has no `next:`
    # What a client of the endpoint sees, in words. Clients ask meanwhile, until the next `up` has converged: a failed request ends in one
    # of the ways `loses` (`*` is any text), and there are at most `gap` seconds without an answer.
    client: str = ""
    loses: Annotated[list[str], pydantic.BeforeValidator(_flat)] = []
    gap: float = 60
    tokens: int = 200  # of each client's longest stream


class Elsewhere(pydantic.BaseModel):
    """A fault that other tests cause: what a client of the endpoint sees, what the operator sees, the tests as FILE::NAME."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    fault: str
    client: str
    operator: str
    tested: Annotated[list[str], pydantic.BeforeValidator(_listed), pydantic.Field(min_length=1)]


@functools.cache
def rows() -> list[Fault | Elsewhere]:
    """Return every row, in the order of the files. Raises FleetError for one of another form."""
    table: list[Fault | Elsewhere] = []
    for file in sorted(FOLDER.glob("*.yml")):
        for number, keys in enumerate(yaml.safe_load(file.read_text()), start=1):
            form = Elsewhere if "tested" in keys else Fault
            table.append(table_rows.row(file, form, keys, f"row {number} ({keys.get('fault')})"))
    return table


def load() -> list[Fault]:
    """Return the rows that a test of this table injects."""
    return [row for row in rows() if isinstance(row, Fault)]
