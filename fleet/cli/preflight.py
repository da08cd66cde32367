"""`fleet preflight`: check the machines of a stack against its requirements, and change nothing on them.

fleet.stack.requirements has the requirements, fleet.preflight checks them: all nodes at once, one exec each. A node that cannot be
checked does not stop the others.
"""

import functools
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
    loaded, roles = common.load_typed_stack(stack)
    if loaded.kubernetes:
        reports = [of_cluster(stack, loaded, roles)]
    else:
        reports = look(required(stack, loaded, roles, nodes), common.progress)
    if as_json:
        click.echo(to_json(reports))
    else:
        click.echo("\n\n".join([as_table(reports, everything), *problems(reports)]))
    if any(report.error for report in reports):
        sys.exit(2)
    if any(report.stops for report in reports):
        sys.exit(1)


def of_cluster(stack: str, loaded: settings.Settings, roles: role_vars.Roles) -> "Report":
    """Check the cluster of a stack."""
    from fleet.cli import cluster_requirements  # these three: of the Kubernetes client, which other stacks do not need
    from fleet.cluster import Access, Cluster
    from fleet.preflight import cluster

    wanted = cluster_requirements.of_stack(stack, loaded, roles)
    assert loaded.kubernetes
    context = loaded.kubernetes.context
    try:
        found = Cluster(Access(context, loaded.kubernetes.kubeconfig or ""))
    except errors.FleetError as error:
        return Report(context, error=str(error))
    return Report(context, cluster.check(found, wanted))


@dataclass(frozen=True)
class Report:
    """The result of every check of one node, or why it could not be checked."""

    node: str
    results: list[machine.CheckResult] = field(default_factory=list)
    error: str = ""

    @property
    def stops(self) -> bool:
        """Whether an error stops a run on this node."""
        return any(result.level == "error" for result in self.results)


def required(
    stack: str, loaded: settings.Settings, roles: role_vars.Roles, names: Sequence[str]
) -> list[machine.Requirements]:
    """Return the requirements of each named node (no name means all). Raises FleetError for an unknown name."""
    nodes = loaded.present
    near = functools.partial(errors.did_you_mean, candidates=nodes)
    chosen = common.chosen("preflight", names, nodes, "no machine of this stack", near)
    targets, owner = _targets(stack, loaded, chosen), f"{stack_file.PROJECT}/{stack}"
    plans = {name: requirements.of_machine(loaded, roles, name, owner) for name in chosen}
    return [machine.Requirements.from_plan(targets[name], plan) for name, plan in plans.items()]


def look(nodes: Sequence[machine.Requirements], note: Callable[[str], None]) -> list[Report]:
    """Check all nodes at once; `note` gets a line when one is done."""

    def check_node(node: machine.Requirements) -> Report:
        try:
            results = machine.check(machine.observe(node), node)
        except errors.FleetError as error:
            report = Report(node.target.name, error=str(error))
        else:
            report = Report(node.target.name, results)
        note(f"{report.node}: {'could not check' if report.error else _summary(report)}")
        return report

    with futures.ThreadPoolExecutor(min(AT_ONCE, len(nodes))) as pool:
        return list(pool.map(check_node, nodes))


def as_table(reports: Sequence[Report], everything: bool) -> str:
    """Return a table with one line per result, and one line for a node without findings. `everything` includes results that are ok."""
    rows = [row for report in reports for row in _rows(report, everything)]
    return table.columns([HEAD, *rows])


def problems(reports: Sequence[Report]) -> list[str]:
    """Return a message for each result that is not ok; nodes with the same problem share one."""
    nodes_by_problem: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        for result in report.results:
            if result.level != "ok":
                problem = (result.check, result.seen, result.wanted, result.next)
                nodes_by_problem.setdefault(problem, []).append(report.node)
    shared = [
        str(errors.FleetError(node=", ".join(nodes), doing=check, seen=seen, wanted=wanted, next=next_step))
        for (check, seen, wanted, next_step), nodes in nodes_by_problem.items()
    ]
    return [*(report.error for report in reports if report.error), *shared]


def to_json(reports: Sequence[Report]) -> str:
    """Return the reports as JSON, where an error has the level `fault`, as in earlier releases."""

    def fields(item: machine.CheckResult) -> dict[str, str]:
        level = "fault" if item.level == "error" else item.level
        return {"check": item.check, "level": level, "seen": item.seen, "wanted": item.wanted, "next": item.next}

    rows = [
        {"node": report.node, "verdicts": [*map(fields, report.results)], "error": report.error} for report in reports
    ]
    return json.dumps(rows, indent=1)


def _targets(stack: str, loaded: settings.Settings, names: Sequence[str]) -> Mapping[str, ssh.Target]:
    """Return how to reach each machine: from the stack file when that has the host key, else from the stack's state."""
    from_file = {
        name: {**reach, "name": name}
        for name in names
        if isinstance(pool := loaded.pool(name), Reached) and "host_key" in (reach := pool.connection(name))
    }
    others = [name for name in names if name not in from_file]
    deployed = (stack_outputs.deployed(stack).get("Node") or {}) if others else {}
    for name in others:
        if name not in deployed:
            raise errors.FleetError(
                node=name,
                doing="preflight",
                seen=f"its source ({loaded.pool(name).source}) has not made it yet",
                wanted="machines that exist",
                next=f"`pulumi up -s {stack}` makes them",
            )
    return {name: ssh.Target.from_inputs(from_file.get(name) or deployed[name]["connection"]) for name in names}


def _rows(report: Report, everything: bool) -> Sequence[tuple[str, ...]]:
    if report.error:
        return [(report.node, "-", "-", "could not check")]
    shown = [result for result in report.results if everything or result.level != "ok"]
    rows = [(report.node, result.check, SIGNS[result.level], re.sub(r"\s+", " ", result.seen)) for result in shown]
    return rows or [(report.node, "all", "ok", f"{len(report.results)} checks")]


def _summary(report: Report) -> str:
    counts = {level: sum(result.level == level for result in report.results) for level in SIGNS}
    return ", ".join(
        f"{count} {level}{'s' if count != 1 and level != 'ok' else ''}" for level, count in counts.items() if count
    )
