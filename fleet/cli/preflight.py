"""`fleet preflight`: what is wrong with the machines of a stack, before anything on them is changed.

The stack file has the requirements, fleet.preflight checks them: all nodes at once, one exec each. A node that cannot be checked does not
stop the others.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field

import click

from fleet import errors, ssh
from fleet import preflight as machine
from fleet.cli import common, stack_outputs, table
from fleet.sources.ssh.form import Reached
from fleet.stack import requirements, role_vars, settings, stack_file

HEAD = ("node", "check", "verdict", "seen")
SIGNS = {"ok": "ok", "warning": "WARN", "error": "ERROR"}
AT_ONCE = 32  # connections


@click.command("preflight")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--all", "everything", is_flag=True, help="Show what is fine, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@common.exit_on_error(2)
def command(stack: str, nodes: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Check whether the machines can become what the stack wants.

    Changes nothing on them. Exit code 1 when an error on a machine would stop `pulumi up`, 2 when a machine could not be checked; warnings
    alone are 0.
    """
    reports = look(required(stack, *common.load_typed_stack(stack), nodes), common.progress)
    if as_json:
        click.echo(to_json(reports))
    else:
        click.echo("\n\n".join([as_table(reports, everything), *problems(reports)]))
    if any(report.error for report in reports):
        sys.exit(2)
    if any(report.stops for report in reports):
        sys.exit(1)


@dataclass(frozen=True)
class Report:
    """What every check says of one node, or why nothing could be looked at."""

    node: str
    results: list[machine.CheckResult] = field(default_factory=list)
    error: str = ""

    @property
    def stops(self) -> bool:
        """Whether an error stops a run on this node."""
        return any(one.level == "error" for one in self.results)


def required(
    stack: str, found: settings.Settings, roles: role_vars.Roles, names: Sequence[str]
) -> list[machine.Requirements]:
    """Return what the stack requires of each named node (none means all); FleetError for a name that it does not have."""
    for name in names:
        if name not in found.present:
            near = settings.nearest(name, found.present)
            raise errors.FleetError(
                node=name,
                doing="preflight",
                seen="no machine of this stack",
                wanted=", ".join(found.present),
                next=f"did you mean {near}?" if near else "",
            )
    asked = [name for name in found.present if not names or name in names]
    targets, owner = _targets(stack, found, asked), f"{stack_file.PROJECT}/{stack}"
    return [
        machine.Requirements.from_plan(targets[name], requirements.wants(found, roles, name, owner)) for name in asked
    ]


def look(nodes: Sequence[machine.Requirements], note: Callable[[str], None]) -> list[Report]:
    """Look at all nodes at once; `note` gets a line for each that is done."""

    def one(node: machine.Requirements) -> Report:
        try:
            results = machine.check(machine.look(node), node)
        except errors.FleetError as error:
            report = Report(node.target.name, error=str(error))
        else:
            report = Report(node.target.name, results)
        note(f"{report.node}: {'could not look' if report.error else _summary(report)}")
        return report

    with futures.ThreadPoolExecutor(min(AT_ONCE, len(nodes))) as pool:
        return list(pool.map(one, nodes))


def as_table(reports: Sequence[Report], everything: bool) -> str:
    """Return a line a result, those that are ok only when `everything` is asked for; each node that is fine has one line."""
    rows = [row for report in reports for row in _rows(report, everything)]
    return table.columns([HEAD, *rows])


def problems(reports: Sequence[Report]) -> list[str]:
    """Return a message for each thing that is not ok: node, seen, wanted, what to do; what several nodes share once."""
    nodes_by_problem: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        for one in report.results:
            if one.level != "ok":
                nodes_by_problem.setdefault((one.check, one.seen, one.wanted, one.next), []).append(report.node)
    shared = [
        str(errors.FleetError(node=", ".join(nodes), doing=check, seen=seen, wanted=wanted, next=after))
        for (check, seen, wanted, after), nodes in nodes_by_problem.items()
    ]
    return [*(report.error for report in reports if report.error), *shared]


def to_json(reports: Sequence[Report]) -> str:
    """Return the reports as JSON, where an error has the level `fault`, as in earlier releases."""

    def fields(one: machine.CheckResult) -> dict[str, str]:
        level = "fault" if one.level == "error" else one.level
        return {"check": one.check, "level": level, "seen": one.seen, "wanted": one.wanted, "next": one.next}

    rows = [
        {"node": report.node, "verdicts": [fields(one) for one in report.results], "error": report.error}
        for report in reports
    ]
    return json.dumps(rows, indent=1)


def _targets(stack: str, found: settings.Settings, names: Sequence[str]) -> Mapping[str, ssh.Target]:
    """Return how to reach each machine: from the stack file where that has its host key, else from the stack's state."""
    from_file = {
        name: {**reach, "name": name}
        for name in names
        if isinstance(pool := found.pool(name), Reached) and "host_key" in (reach := pool.connection(name))
    }
    others = [name for name in names if name not in from_file]
    deployed = (stack_outputs.deployed(stack).get("Node") or {}) if others else {}
    for name in others:
        if name not in deployed:
            raise errors.FleetError(
                node=name,
                doing="preflight",
                seen=f"its source ({found.pool(name).source}) has not made it yet",
                wanted="machines that exist",
                next=f"`pulumi up -s {stack}` makes them",
            )
    return {name: ssh.Target.from_inputs(from_file.get(name) or deployed[name]["connection"]) for name in names}


def _rows(report: Report, everything: bool) -> Sequence[tuple[str, ...]]:
    if report.error:
        return [(report.node, "-", "-", "could not look")]
    shown = [one for one in report.results if everything or one.level != "ok"]
    rows = [(report.node, one.check, SIGNS[one.level], re.sub(r"\s+", " ", one.seen)) for one in shown]
    return rows or [(report.node, "all", "ok", f"{len(report.results)} checks")]


def _summary(report: Report) -> str:
    counts = {level: sum(one.level == level for one in report.results) for level in SIGNS}
    return ", ".join(
        f"{count} {level}{'s' if count != 1 and level != 'ok' else ''}" for level, count in counts.items() if count
    )
