"""The faults as data: table/*.yml, a row a fault; each is done to a standing, converged road of two nodes and leaves it converged.

Owns the form of a row. Called by `inject`, which does what a row says, by the tests and by `page`, which tells what it says.
Text in a row may hold {lab} (the lab's name), {n} (a number that no row had before it), {revision} and {untrained} (the hub's), and
{untrained FILE} (the sha256 of a file of the latter).
"""

import functools
import pathlib
from typing import Any, Literal

import pydantic

from tests.support import rows

FOLDER = pathlib.Path(__file__).parents[1] / "faults" / "table"

# Shell commands by where they run: on a node (through the lab's engine, as root), on the lab's site, or here (in the project's folder).
Commands = dict[Literal["glm-1", "glm-2", "site", "here"], str]
# Role variables by machine, `all` for the whole stack; null takes one out.
Variables = dict[Literal["glm-1", "glm-2", "all"], dict[str, Any]]


class Fault(pydantic.BaseModel):
    """One row. What is asked for after the fault: that `said` is told once, `held` succeeds, and the other node has finished `other`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    fault: str
    node: Literal["glm-1", "glm-2"] = "glm-2"  # whose fault it is
    usual: bool = (
        False  # `make test` has it, on the road of tests/e2e; `make test-all` has the others, on a road of their own
    )
    set: Variables = {}  # what makes the run do something; a machine's own are taken out again
    prepare: Commands = {}  # and what else must be so before it
    run: Literal["up", "preview", "preview --refresh", "bootstrap/up.sh lab"] = "up"
    when: str = (
        ""  # a text of the run's output, or of the node's log of it, at which the fault comes; "" = before the run
    )
    breaks: Commands = {}
    said: str  # the message as the run prints it; `*` is any text of one line, a line `…` any lines
    ends: Literal["badly", "well"] = "badly"
    again: str = ""  # what a second run says where nothing was put right
    other: str = ""  # the kind of resource whose run on the other node went well meanwhile
    held: Commands = {}  # what is still so after the run
    mend: Commands = {}
    correct: Variables = {}
    after: Commands = {}  # what is so once the next `up` has converged
    todo: str = ""  # for the page, where the message has no `next:`


@functools.cache
def load() -> list[Fault]:
    """Every row, in the order of the files."""
    return [row for file in sorted(FOLDER.glob("*.yml")) for row in rows.read(file, Fault)]
