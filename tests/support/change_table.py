"""The change matrix as data: a file a role, ROLE.yml, with a row for each change that is made once, in the order in which they are made.

Owns the form of such a file. Nothing in it says what a change does: that is what the preview tells, and what the node then shows.
Called by test_changes.py, by tests/e2e/test_e2e_changes.py, which makes a few of them, and by `page`.
"""

import functools
import pathlib
from typing import Any

import pydantic

from fleet.impact import role_effects
from fleet.stack import role_digest
from tests.support import rows

FOLDER = pathlib.Path(__file__).parents[1] / "changes"
ROLES = pathlib.Path(__file__).parents[2] / "roles"


class Row(pydantic.BaseModel):
    """One change: of a variable (`variable`, with one of `to`, `entry`, `told`, `site`, `unset`), or of a file of the role (`file`).

    `entry` is {key: value} of a dictionary, where null takes the key out. `told` is a command whose output on the node is the value, read
    as JSON where it is an object. `site` is a variable whose value the lab's site knows. `unset`: the stack no longer sets it.
    A file gets `add` at its end, or `put`, [what stands there, what comes in its place]; without both a task or a comment that does nothing.
    `kind` says which of several changes of one thing this is. What must be there before: `needs` are variables, `first` is a command on the
    node, `at_site` one on the lab's site. `back`: what was changed is changed back afterwards, since what follows could not stand it. `by` says that another row makes this
    change, of what is set by the program; `never` why no lab can make it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    role: str
    variable: str = ""
    file: str = ""
    kind: str = ""
    to: Any = None
    entry: dict[str, Any] | None = None
    told: str = ""
    site: str = ""
    unset: bool = False
    add: str = ""
    put: list[str] | None = None
    needs: dict[str, Any] = {}
    first: str = ""
    at_site: str = ""
    back: bool = False
    by: str = ""
    never: str = ""

    @property
    def subject(self) -> str:
        """The variable, or the file below roles/."""
        return self.variable or f"{self.role}/{self.file}"

    @property
    def name(self) -> str:
        """What the row is called, as no other is."""
        return f"{self.subject}: {self.kind}" if self.kind else self.subject


@functools.cache
def load() -> tuple[Row, ...]:
    """Every row, role by role."""
    files = sorted(FOLDER.glob("*.yml"))
    return tuple(row for file in files for row in rows.read(file, Row, role=file.stem))


def made() -> tuple[Row, ...]:
    """The rows that are changes of their own."""
    return tuple(row for row in load() if not row.by and not row.never)


def together() -> list[tuple[Row, ...]]:
    """The same rows, in the order in which they are made: those of one role of which the role states that nothing restarts are one change.

    Where all of these are made and nothing happens, none of them does anything: that hides nothing. A thing is changed once in a run.
    """
    groups: list[list[Row]] = []
    for role in dict.fromkeys(row.role for row in made()):
        quiet: list[list[Row]] = []
        for row in (row for row in made() if row.role == role):
            place = next((some for some in quiet if row.subject not in {one.subject for one in some}), None)
            if not _restarts_nothing(row) or row.needs or row.back:
                groups.append([row])
            elif place is None:
                quiet.append([row])
                groups.append(quiet[-1])
            else:
                place.append(row)
    return [tuple(some) for some in groups]


def _restarts_nothing(row: Row) -> bool:
    """Whether that is all that the role states of it, whatever becomes of it."""
    told = role_effects.read_statement(ROLES, row.role)
    if row.variable:
        return told.variables[row.variable] == "none" and not _decides(told, row.variable)
    return (
        row.file not in role_digest.DEFINING
        and told.of_file(row.file) == role_effects.NONE
        and not _decides(told, row.file)
    )


def _decides(told: role_effects.Statement, name: str) -> bool:
    return told.results is not None and told.decides(name)


def named(name: str) -> Row:
    """The row with this name."""
    return next(row for row in load() if row.name == name)
