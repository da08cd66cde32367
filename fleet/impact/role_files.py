"""Shows what a change of variables does to the files that a role's templates write: the lines that go, and the lines that come.

Needs the roles' tasks and templates; opens no connection. Called by fleet.provider.preview_record.
"""

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet.impact import value_diff
from fleet.impact.rendering import LATER, OF_HOST, Later, Scope, Unknown
from fleet.impact.role_effects import read_statement

TEMPLATE, COPY = "ansible.builtin.template", "ansible.builtin.copy"
# What Ansible itself sets, as far as a template of ours shows it.
ANSIBLE = {"ansible_managed": "Managed", "ansible_check_mode": False, "omit": ""}
LONGEST = 200  # lines of one file


@dataclass(frozen=True)
class FileChange:
    """One file of one role, and its changed lines, each with its sign; not `whole` where the host or the run decides a part of the file."""

    path: str
    lines: tuple[str, ...]
    whole: bool


@dataclass(frozen=True)
class _Writer:
    """A task that writes a file from variables: the text of its template, or an expression; and what it loops over."""

    path: str
    template: str
    content: str
    loop: Any
    condition: Any


def changes(
    names: Iterable[str], old: Mapping[str, Any], new: Mapping[str, Any], roles: Path, later: str = ""
) -> list[FileChange]:
    """Return the changed files of the roles `names` between two values of their variables, where `later` is one that is not known yet.

    A file that appears or goes is not among them.
    """
    changed = []
    for role in names:
        before, after = (files(roles, role, _marked(side, later)) for side in (old, new))
        for path in sorted(before.keys() & after.keys()):
            was, now = before[path], after[path]
            if was[0] != now[0]:
                changed.append(FileChange(path, _difference(was[0], now[0]), was[1] and now[1]))
    return changed


def _marked(value: Any, later: str) -> Any:
    """Return a value with Later in the place of each `later`."""
    if isinstance(value, Mapping):
        return {key: _marked(entry, later) for key, entry in value.items()}
    if isinstance(value, list):
        return [_marked(entry, later) for entry in value]
    return Later() if later and value == later else value


def files(roles: Path, role: str, variables: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return the text of each file that a role writes with these variables, and whether all of it is known."""
    texts = {}
    for writer in _writers(roles, role):
        scope = Scope({**ANSIBLE, **variables}, _expressions(roles, role), roles / role / "templates")
        for item in _items(scope, writer.loop):
            local = {} if item is None else {"item": item}
            if not _applies(scope, writer.condition, local):
                continue
            path = scope.evaluated(writer.path, **local)
            source = str(scope.evaluated(writer.template, **local))
            if isinstance(path, Unknown) or any(words in f"{path} {source}" for words in (OF_HOST, LATER)):
                continue
            scope.complete = True
            text = scope.text(source, **local) if source else _content(scope, writer, local)
            if text is not None:
                texts[str(path)] = text, scope.complete
    return texts


def _content(scope: Scope, writer: _Writer, local: Mapping[str, Any]) -> str | None:
    """Return the text that a task has itself; None where only the host decides it."""
    text = scope.evaluated(writer.content, **local)
    return None if isinstance(text, Unknown) else str(text)


def _items(scope: Scope, loop: Any) -> list[Any]:
    """Return what a task loops over, [None] without a loop."""
    if loop is None:
        return [None]
    items = scope.evaluated(loop)
    return items if isinstance(items, list) else []


def _applies(scope: Scope, condition: Any, local: Mapping[str, Any]) -> bool:
    """Return whether a task runs; one whose condition only the host decides may."""
    for entry in condition if isinstance(condition, list) else [condition]:
        value = scope.evaluated(f"{{{{ {entry} }}}}", **local) if isinstance(entry, str) else entry
        if value is not None and not isinstance(value, Unknown) and not value:
            return False
    return True


def _difference(old: str, new: str) -> tuple[str, ...]:
    """Return the lines that go and come, without those around them, secrets masked."""
    rows = [*difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)][2:]
    lines = [value_diff.masked(row) for row in rows if not row.startswith("@@")]
    more = [f"... and {len(lines) - LONGEST} more lines"] if len(lines) > LONGEST else []
    return (*lines[:LONGEST], *more)


@functools.cache
def _writers(roles: Path, role: str) -> tuple[_Writer, ...]:
    """Return the tasks of a role that write a file from variables; one with `no_log` has a secret, and is left out."""
    files = sorted((roles / role / "tasks").glob("*.yml"))
    return tuple(writer for file in files for writer in _of_tasks(yaml.safe_load(file.read_text()) or [], ()))


def _of_tasks(tasks: Any, outer: tuple[Any, ...]) -> Iterator[_Writer]:
    for task in tasks:
        own = task.get("when")
        conditions = (*outer, *(own if isinstance(own, list) else [own]))
        for part in ("block", "rescue", "always"):
            yield from _of_tasks(task.get(part) or [], conditions)
        module = task.get(TEMPLATE) or task.get(COPY) or {}
        if not task.get("no_log") and "dest" in module and (TEMPLATE in task or "content" in module):
            template = module["src"] if TEMPLATE in task else ""
            yield _Writer(module["dest"], template, module.get("content", ""), task.get("loop"), [*conditions])


@functools.cache
def _expressions(roles: Path, role: str) -> Mapping[str, Any]:
    """Return the role's defaults and its internal variables, which may be expressions."""
    file = roles / role / "vars" / "main.yml"
    return {**read_statement(roles, role).defaults, **(yaml.safe_load(file.read_text()) if file.exists() else {})}
