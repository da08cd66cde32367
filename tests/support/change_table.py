"""The change matrix as data: a file a role, ROLE.yml, with a row for each change, in the order in which the tests make them.

Owns the form of such a file. No row says what its change does: the preview predicts that, and the node shows it.
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
    """One change: of a variable (`variable`, with one of `to`, `entry`, `from_node`, `site`, `unset`), or of a file of the role (`file`).

    `entry` is {key: value} of a dictionary, where null removes the key. `from_node` is a command whose output on the node is the value, read
    as JSON where it is an object. `site` is a variable of the lab's site with the value. `unset`: the stack no longer sets it.
    A file gets `add` at its end, or `put`, [old text, new text]; without both a task or a comment that does nothing.
    `kind` distinguishes several changes of one thing. Before the change: `needs` are variables, `first` is a command on the node, `at_site` one
    on the lab's site. `back` reverts the change, which later rows could not bear. `by` names the row that makes this change, of what the
    program sets; `never` gives the reason why no lab can make it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    role: str
    variable: str = ""
    file: str = ""
    kind: str = ""
    to: Any = None
    entry: dict[str, Any] | None = None
    from_node: str = ""
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
        """The row's name, which no other has."""
        return f"{self.subject}: {self.kind}" if self.kind else self.subject


@functools.cache
def load() -> tuple[Row, ...]:
    """Return every row, role by role."""
    files = sorted(FOLDER.glob("*.yml"))
    return tuple(row for file in files for row in rows.read(file, Row, role=file.stem))


def changes() -> tuple[Row, ...]:
    """Return the rows that are changes of their own."""
    return tuple(row for row in load() if not row.by and not row.never)


def runs() -> list[tuple[Row, ...]]:
    """Return the changes of each run, in order: one run makes all of a role's changes that, by its statement, restart nothing.

    Where nothing happens after all of them, none of them does anything: that hides nothing. A run changes a thing once.
    """
    groups: list[list[Row]] = []
    for role in dict.fromkeys(row.role for row in changes()):
        quiet_groups: list[list[Row]] = []
        for row in (row for row in changes() if row.role == role):
            place = next(
                (group for group in quiet_groups if row.subject not in {other.subject for other in group}), None
            )
            if not _restarts_nothing(row) or row.needs or row.back:
                groups.append([row])
            elif place is None:
                quiet_groups.append([row])
                groups.append(quiet_groups[-1])
            else:
                place.append(row)
    return [tuple(group) for group in groups]


def _restarts_nothing(row: Row) -> bool:
    """Return whether the role states only that, whatever the value."""
    statement = role_effects.read_statement(ROLES, row.role)
    if statement.results is not None and statement.decides(row.variable or row.file):
        return False
    if row.variable:
        return statement.variables[row.variable] == "none"
    return row.file not in role_digest.DEFINING and statement.of_file(row.file) == role_effects.NONE


def named(name: str) -> Row:
    """Return the row with this name."""
    return next(row for row in load() if row.name == name)
