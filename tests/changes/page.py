"""docs/changes.md: what a change of each variable and each file of the roles does to a running machine. `make docs` writes it.

Sources: the roles' statements (roles/*/meta/effects.yml) and the rows that compare them with a node.
"""

from collections.abc import Mapping

from fleet.impact import effects, role_effects
from fleet.impact.role_effects import Level, Statement
from fleet.stack import resource_roles, role_digest, role_vars
from tests.support import change_table, records

HEAD = """# What a change does

`pulumi preview` says it for the change at hand, machine by machine; this page is for looking it up beforehand. It is made from what the roles
state, `roles/*/meta/effects.yml`, and each line is held against a lab node with the real engine (`tests/changes`): the change is made once in
each of the ways named, and what the preview foretells must be what the node then shows, in boot id, every service's run, reloads and
containers. `make docs` writes it.

*May* is the worst that can come, where that shows only during the run. A default of a role counts as its variable where nobody sets that,
and for nothing where somebody does. Of a file of YAML a comment counts for nothing. A task file is said to do what its tasks do today: who
lets it restart something says so in `meta/effects.yml`. What a role no longer names (an option of daemon.json, a package, a kernel argument
of the running kernel) stays on the machine until somebody takes it away. Docker Engine before 23 restarts where a newer one reloads.
*Gone through*: rows that a run on a lab node has shown since the row, its role and what reads them last changed (`tests/support/records.py`).
"""
PRIVATE = "Its variables no stack sets: the roles that include it hand them over.\n"


def page() -> str:
    """Return the page as Markdown."""
    roles = role_vars.load(change_table.ROLES)
    return "\n".join([HEAD, *(_role(name, roles) for name in (*roles.roles, resource_roles.HELPER))])


def _role(role: str, roles: role_vars.Roles) -> str:
    statement = role_effects.statement(change_table.ROLES, role)
    lines = [f"## {role}\n", f"{_coverage(role)}\n"]
    if role in roles.roles:
        lines += ["| variable | a change of it | changed |", "|---|---|---|"]
        for name in roles.roles[role].options:
            lines.append(f"| `{name}` | {_of_variable(statement, name)} | {_ways(role, name)} |")
    else:
        lines.append(PRIVATE.rstrip())
    lines += ["", "| file | a change of it | changed |", "|---|---|---|"]
    for file, parts in _files(role).items():
        lines.append(f"| `{file}` | {_of_file(statement, file, parts)} | {_ways(role, file)} |")
    return "\n".join([*lines, ""])


def _coverage(role: str) -> str:
    """Return how many rows of a role a run has shown as they are now, of how many."""
    all_records = records.read("changes")
    rows = [row for row in change_table.changes() if row.role == role]
    states = [records.state("changes", all_records.get(row.name, {}), row.model_dump()) for row in rows]
    current = [state for state in states if state != "not yet" and "stale" not in state]
    days = sorted({state.partition(",")[0] for state in current})
    when = f" ({', '.join(days)})" if days else ""
    return f"Gone through as they are now: {len(current)} of {len(rows)} rows{when}."


def _files(role: str) -> Mapping[str, list[str]]:
    """Return each file of a role, with its names in the listing."""
    parts: dict[str, list[str]] = {}
    for line in role_digest.listing(change_table.ROLES / role).splitlines():
        part = line.partition("  ")[2]
        parts.setdefault(part.partition(": ")[0], []).append(part)
    return parts


def _of_variable(statement: Statement, name: str) -> str:
    levels = statement.variables[name]
    if name == effects.NAMED:
        return "**restart** each replica whose own entry differs, **start** one that comes, **stop** one that goes"
    if isinstance(levels, str):
        return _effect(statement, name, role_effects.level(levels))
    names = {"*": "any other", "-*": "taken out"}
    words = {key: _words(role_effects.level(text), statement) for key, text in levels.items()}
    return _by_words({names.get(key, f"`{key}`"): text for key, text in words.items()})


def _effect(statement: Statement, name: str, level: Level) -> str:
    """Return the level in words, or the restart of the replicas where the variable or file decides what another resource needs."""
    decides = statement.results is not None and statement.decides(name)
    return "**restart** every replica, with what comes of it" if decides else _words(level, statement)


def _of_file(statement: Statement, file: str, parts: list[str]) -> str:
    if parts[0].startswith(role_digest.DEFAULT):
        return "what its variable says"
    if parts == [file]:
        return _effect(statement, file, statement.of_file(file))
    words = {f"`{part.partition(': ')[2]}`": _effect(statement, part, statement.of_file(part)) for part in parts}
    common = max(words.values(), key=list(words.values()).count)
    return _by_words({**{name: text for name, text in words.items() if text != common}, "any other": common})


def _by_words(words: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, text in words.items():
        names.setdefault(text, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "<br>".join(f"{', '.join(group)}: {text}" for text, group in names.items())


def _words(level: Level, statement: Statement) -> str:
    restarts = "every replica" if statement.restarts == effects.REPLICAS else statement.restarts
    text = {
        "none": "nothing restarts",
        "reload": f"reload {statement.reloads}",
        "restart": f"**restart** {restarts}",
        "reboot": "**reboot**",
    }[level.name]
    return text if level.sure else f"may {text}"


def _ways(role: str, subject: str) -> str:
    """Return how the matrix changes it: once, or in these ways."""
    rows = [row for row in change_table.load() if row.role == role and subject in (row.variable, row.file)]
    by = [f"by `{row.by}`" for row in rows if row.by]
    never = [f"never: {row.never}" for row in rows if row.never]
    return ", ".join([row.kind or "once" for row in rows if not row.by and not row.never] + by + never)


if __name__ == "__main__":
    print(page(), end="")
