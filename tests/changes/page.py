"""docs/changes.md: what a change of each variable and each file of the roles does to a running machine. `make docs` writes it.

Made from what the roles state (roles/*/meta/effects.yml) and from the rows that hold it against a node.
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
    """The page as Markdown."""
    roles = role_vars.load(change_table.ROLES)
    return "\n".join([HEAD, *(_role(name, roles) for name in (*roles.roles, resource_roles.HELPER))])


def _role(name: str, roles: role_vars.Roles) -> str:
    told = role_effects.read_statement(change_table.ROLES, name)
    lines = [f"## {name}\n", f"{_gone_through(name)}\n"]
    if name in roles.roles:
        lines += ["| variable | a change of it | changed |", "|---|---|---|"]
        lines += [f"| `{one}` | {_of_variable(told, one)} | {_ways(name, one)} |" for one in roles.roles[name].options]
    else:
        lines += [PRIVATE.rstrip()]
    lines += ["", "| file | a change of it | changed |", "|---|---|---|"]
    lines += [
        f"| `{file}` | {_of_file(told, file, parts)} | {_ways(name, file)} |" for file, parts in _files(name).items()
    ]
    return "\n".join([*lines, ""])


def _gone_through(role: str) -> str:
    """Return how many rows of a role a run has shown as they are now, of how many."""
    known = records.read("changes")
    rows_ = [row for row in change_table.made() if row.role == role]
    states = [records.state("changes", known.get(row.name, {}), row.model_dump()) for row in rows_]
    now = [state for state in states if state != "not yet" and "stale" not in state]
    days = sorted({state.partition(",")[0] for state in now})
    when = f" ({', '.join(days)})" if days else ""
    return f"Gone through as they are now: {len(now)} of {len(rows_)} rows{when}."


def _files(role: str) -> Mapping[str, list[str]]:
    """Each file of a role, with the names that its listing has for it."""
    found: dict[str, list[str]] = {}
    for line in role_digest.listing(change_table.ROLES / role).splitlines():
        part = line.partition("  ")[2]
        found.setdefault(part.partition(": ")[0], []).append(part)
    return found


def _of_variable(told: Statement, name: str) -> str:
    stated = told.variables[name]
    if name == effects.REPLICAS_VARIABLE:
        return "**restart** each replica whose own entry differs, **start** one that comes, **stop** one that goes"
    if isinstance(stated, str):
        return _or_anew(told, name, _words(role_effects.level(stated), told))
    names = {"*": "any other", "-*": "taken out"}
    return _by_words(
        {names.get(one, f"`{one}`"): _words(role_effects.level(text), told) for one, text in stated.items()}
    )


def _or_anew(told: Statement, name: str, words: str) -> str:
    """Where it decides what another resource needs, that is what counts."""
    return (
        "**restart** every replica, with what comes of it" if told.results is not None and told.decides(name) else words
    )


def _of_file(told: Statement, file: str, parts: list[str]) -> str:
    if parts[0].startswith(role_digest.DEFAULT):
        return "what its variable says"
    if parts == [file]:
        return _or_anew(told, file, _words(told.of_file(file), told))
    words = {f"`{part.partition(': ')[2]}`": _or_anew(told, part, _words(told.of_file(part), told)) for part in parts}
    common = max(words.values(), key=list(words.values()).count)
    return _by_words({**{name: does for name, does in words.items() if does != common}, "any other": common})


def _by_words(words: Mapping[str, str]) -> str:
    found: dict[str, list[str]] = {}
    for name, does in words.items():
        found.setdefault(does, []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return "<br>".join(f"{', '.join(names)}: {does}" for does, names in found.items())


def _words(level: Level, told: Statement) -> str:
    restarts = "every replica" if told.restarts == effects.REPLICAS else told.restarts
    does = {
        "none": "nothing restarts",
        "reload": f"reload {told.reloads}",
        "restart": f"**restart** {restarts}",
        "reboot": "**reboot**",
    }[level.name]
    return does if level.sure else f"may {does}"


def _ways(role: str, subject: str) -> str:
    """How the matrix changes it: once, or in these ways."""
    mine = [row for row in change_table.load() if row.role == role and subject in (row.variable, row.file)]
    by = [f"by `{row.by}`" for row in mine if row.by]
    never = [f"never: {row.never}" for row in mine if row.never]
    return ", ".join([row.kind or "once" for row in mine if not row.by and not row.never] + by + never)


if __name__ == "__main__":
    print(page(), end="")
