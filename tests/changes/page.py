"""Generate docs/changes.md: the effect of a change of each variable and each file of the roles on a running machine. Called by `make docs`.

Needs the effects that the roles declare (roles/*/meta/effects.yml), and the rows that tests/changes compares with a node.
"""

from collections.abc import Mapping

from fleet import errors
from fleet.impact import effects, role_effects
from fleet.impact.role_effects import Level, Statement
from fleet.stack import resource_roles, role_digest, role_vars
from tests.support import change_table, records

HEAD = """# What a change does

`pulumi preview` shows the effects of your change on each machine. Look them up here before you write the change. `make docs` generates this page from
the effects that the roles declare, `roles/*/meta/effects.yml`. `tests/changes` compares each line with a lab node and the real Pulumi engine: it makes
each change once in each way of the last column. The preview's prediction must match the node: boot id, the run of every service, reloads, containers.

*May* marks the worst effect, where only the run shows the real one. A changed default has the effect of its variable when no stack sets the variable,
else none. A comment in a YAML file has no effect. A task file has the effect of its present tasks: declare a new restart in `meta/effects.yml`. What a
role no longer names (an option of daemon.json, a package, an argument of the running kernel) stays on the machine until somebody removes it. Docker
Engine before 23 restarts where a newer one reloads. *Up to date*: rows that a run on a lab node has shown since the row, its role and the code that
reads them last changed (`tests/support/records.py`).
"""
PRIVATE = "No stack sets its variables: the roles that include it pass them.\n"


def page() -> str:
    """Return the page as Markdown."""
    roles = role_vars.load(change_table.ROLES)
    return "\n".join([HEAD, *(_role(name, roles) for name in (*roles.roles, resource_roles.HELPER))])


def _role(name: str, roles: role_vars.Roles) -> str:
    statement = role_effects.read_statement(change_table.ROLES, name)
    lines = [f"## {name}\n", f"{_up_to_date(name)}\n"]
    if name in roles.roles:
        options = roles.roles[name].options
        for missing in sorted(options.keys() - statement.variables.keys()):
            raise errors.SettingsError(
                file=f"roles/{name}/meta/effects.yml",
                key=f"variables.{missing}",
                seen="this key is missing",
                allowed="what a change of the variable does: " + ", ".join(effects.LEVELS),
                next="add it, and a row to tests/changes, then `make docs`",
            )
        lines += ["| variable | effect of a change | tested changes |", "|---|---|---|"]
        lines += [f"| `{option}` | {_of_variable(statement, option)} | {_ways(name, option)} |" for option in options]
    else:
        lines += [PRIVATE.rstrip()]
    files = _files(name).items()
    lines += ["", "| file | effect of a change | tested changes |", "|---|---|---|"]
    lines += [f"| `{file}` | {_of_file(statement, file, parts)} | {_ways(name, file)} |" for file, parts in files]
    return "\n".join([*lines, ""])


def _up_to_date(role: str) -> str:
    """Return how many of a role's rows a run has shown in their present form."""
    recorded = records.read("changes")
    rows = [row for row in change_table.changes() if row.role == role]
    states = [records.state("changes", recorded.get(row.name, {}), row.model_dump()) for row in rows]
    current = [state for state in states if state != "not yet" and "stale" not in state]
    days = sorted({state.partition(",")[0] for state in current})
    when = f" ({', '.join(days)})" if days else ""
    return f"Up to date: {len(current)} of {len(rows)} rows{when}."


def _files(role: str) -> Mapping[str, list[str]]:
    """Return the parts of each file of a role, by the names in its listing."""
    parts: dict[str, list[str]] = {}
    for line in role_digest.listing(change_table.ROLES / role).splitlines():
        part = line.partition("  ")[2]
        parts.setdefault(part.partition(": ")[0], []).append(part)
    return parts


def _of_variable(statement: Statement, name: str) -> str:
    effect = statement.variables[name]
    if name == effects.REPLICAS_VARIABLE:
        return "**restart** each replica with a changed entry, **start** a new one, **stop** a removed one"
    if isinstance(effect, str):
        return _or_restart(statement, name, _words(role_effects.level(effect), statement))
    names = {"*": "any other", "-*": "removed"}
    levels = {names.get(part, f"`{part}`"): role_effects.level(text) for part, text in effect.items()}
    return _by_words({part: _words(level, statement) for part, level in levels.items()})


def _or_restart(statement: Statement, name: str, words: str) -> str:
    """Return the restart for a name that decides an input of the replicas (its own role restarts nothing), else the words."""
    decides = statement.results is not None and not statement.restarts and statement.decides(name)
    return "**restart** every replica, with the new result" if decides else words


def _of_file(statement: Statement, file: str, parts: list[str]) -> str:
    if parts[0].startswith(role_digest.DEFAULT):
        return "the effect of its variable"
    by_part = {part: _or_restart(statement, part, _words(statement.of_file(part), statement)) for part in parts}
    if parts == [file]:
        return by_part[file]
    words = {f"`{part.partition(': ')[2]}`": does for part, does in by_part.items()}
    common = max(words.values(), key=list(words.values()).count)
    return _by_words({**{name: does for name, does in words.items() if does != common}, "any other": common})


def _by_words(words: Mapping[str, str]) -> str:
    names_by_words: dict[str, list[str]] = {}
    for name, does in words.items():
        names_by_words.setdefault(does, []).append(name)
    if len(names_by_words) == 1:
        return next(iter(names_by_words))
    return "<br>".join(f"{', '.join(names)}: {does}" for does, names in names_by_words.items())


def _words(level: Level, statement: Statement) -> str:
    units = {effects.REPLICAS: "every replica", effects.PROXIES_SIGN: "the proxies"}
    restarts, reloads = (level.unit or units.get(unit, unit) for unit in (statement.restarts, statement.reloads))
    does = {
        "none": "nothing restarts",
        "reload": f"reload {reloads}",
        "restart": f"**restart** {restarts}",
        "reboot": "**reboot**",
    }[level.name]
    return does if level.sure else f"may {does}"


def _ways(role: str, subject: str) -> str:
    """Return how tests/changes changes a variable or file: once, or in these ways."""
    rows = [row for row in change_table.load() if row.role == role and subject in (row.variable, row.file)]
    by = [f"by `{row.by}`" for row in rows if row.by]
    never = [f"never: {row.never}" for row in rows if row.never]
    return ", ".join([row.kind or "once" for row in rows if not row.by and not row.never] + by + never)
