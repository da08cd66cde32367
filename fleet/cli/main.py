"""The command `fleet`: thin verbs over a stack's outputs. Needs `pulumi` on PATH and its environment (`eval "$(make env)"`).

    fleet plan -s STACK                      what fits: GPUs, memory, cache; and what is wrong with the plan
    fleet mirrors -s STACK                   what must lie on mirrors, for machines without a way out
    fleet enrol -s STACK NODE…               which host keys answer; the compared one into the stack file
    fleet pin -s STACK                       what tags and branches name now; digests and commits into the stack file
    fleet preflight -s STACK [NODE …]        what is wrong with the machines, before anything there is touched
    fleet show -s STACK                      what serves where, and two lines to paste
    fleet forward -s STACK [NODE/REPLICA]    a tunnel to a replica, until ^C
    fleet probe -s STACK [--html FILE …]     ask the replicas, compare with the truth
    fleet verify -s STACK [NODE …]           every byte of the weights against what was recorded
    fleet accept -s STACK [NODE …]           benchmarks against what an MI300X must reach; the GPUs must be free
    fleet request CASE                       the body of one probe's request, for `curl -d @-`

`plan`, `mirrors`, `enrol` and `pin` read the stack file alone, and so does `preflight` of machines whose host key it has; the others a stack that is up.

Changes nothing on any machine that stays, but for the time of a weights file that `verify` finds wrong. Errors end with the text of a
FleetError and exit code 1; of `verify`, `accept` and `preflight`, where 1 is what they found, with 2.
"""

import contextlib
import json
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from fleet.cli import common, stack_outputs, table


@click.group(help=(__doc__ or "").split("\n\n", maxsplit=1)[0])
def main() -> None:
    """Entry point of the console script."""


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@main.command("plan")
@common.stack_option
@common.told
def plan_(stack: str) -> None:
    """Show what fits: GPUs to replicas, memory bars a GPU, cache tokens; exit code 1 when something is wrong with the plan."""
    from fleet.stack import capacity, validate

    judged, roles = common.load_stack(stack)
    found = validate.judge(judged, roles, f"stacks/Pulumi.{stack}.yaml", common.today())
    if not found.mistyped:
        click.echo(capacity.report(judged, roles))
    for level, findings in (("error", found.mistakes), ("warning", found.warnings)):
        for finding in findings:
            click.echo(f"\n{level}: {finding}")
    if found.mistakes:
        sys.exit(1)


@main.command("mirrors")
@common.stack_option
@common.told
def mirrors_(stack: str) -> None:
    """List what the machines of a stack fetch, and from where: what a mirror must hold (`mirrors:` in the stack file)."""
    from fleet.cli.verify import size
    from fleet.stack import mirrors, validate

    judged, roles = common.load_typed_stack(stack)
    needed = [one for name in judged.present for one in mirrors.items(validate.plan(judged, roles, name).values)]
    rows = [
        (one.kind, one.name, size(one.bytes) if one.bytes else "-", one.source)
        for one in dict.fromkeys([*needed, *mirrors.measured(judged)])
    ]
    click.echo(table.columns([("kind", "name", "size", "from"), *rows]))


@main.command()
@common.stack_option
@click.argument("nodes", nargs=-1, required=True, metavar="NODE[=ADDRESS]...")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="SHA256:…",
    help="Pin this fingerprint without asking; may be given again.",
)
@click.option("--known-hosts", type=click.File(), help="A known_hosts file that says which keys the machines have.")
@click.option("--sshfp", is_flag=True, help="Ask DNS which keys the machines have (SSHFP records).")
@common.told
def enrol(
    stack: str, nodes: tuple[str, ...], expected: tuple[str, ...], known_hosts: TextIO | None, sshfp: bool
) -> None:
    """Show which host keys answer at the nodes' addresses, and pin one of each in the stack file, after a yes or as expected.

    NODE=ADDRESS adds a machine. Compare the fingerprints with what the machine's console shows:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    from fleet.cli import enrol as enrolment
    from fleet.cli import stack_edit

    file = stack_edit.StackFile(common.root() / "stacks" / f"Pulumi.{stack}.yaml", f"stacks/Pulumi.{stack}.yaml")
    answers = enrolment.ask(file.targets(nodes), common.progress)
    text = known_hosts.read() if known_hosts else ""
    for answer in answers:
        sources: dict[str, list[str]] = {}
        if known_hosts:
            sources[known_hosts.name] = enrolment.from_file(text, answer.target, answer.node)
        if sshfp:
            sources["DNS"] = enrolment.from_dns(answer.target.address)
        enrolment.choose(answer, expected, sources)
    click.echo(enrolment.as_table(answers))
    new = [answer for answer in answers if answer.chosen and answer.chosen.fingerprint != answer.pinned]
    if not new:
        click.echo(f"{file.name} has them already")
        return
    names = ", ".join(answer.node for answer in new)
    if not expected and not click.confirm(f"Does a console show the same? Pin the host keys of {names} in {file.name}"):
        click.echo("nothing was written")
        sys.exit(1)
    written = [file.pin(answer.node, answer.chosen, answer.target.address) for answer in new if answer.chosen]
    for name in dict.fromkeys(written):
        click.echo(f"{name}: pinned {names}; `git diff {name}` shows it")


@main.command("pin")
@common.stack_option
@click.option("--yes", is_flag=True, help="Write without asking.")
@common.told
def pin_(stack: str, yes: bool) -> None:
    """Show what the tags and branches of a stack file name now, and write digests and commits in their place, after a yes."""
    from fleet.cli import pin, stack_edit

    file = f"stacks/Pulumi.{stack}.yaml"
    pins = pin.look(pin.loose(*common.load_stack(stack), file), common.progress)
    if not pins:
        click.echo(f"{file} names everything by digest or commit already")
        return
    click.echo(pin.as_table(pins))
    if not yes and not click.confirm(f"Write these into {file}"):
        click.echo("nothing was written")
        sys.exit(1)
    for name in stack_edit.write(common.root() / file, file, [one.edit(common.today()) for one in pins]):
        click.echo(f"{name}: written; `git diff {name}` shows it")


@main.command("preflight")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--all", "everything", is_flag=True, help="Show what is fine, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@partial(common.told, code=2)
def preflight_(stack: str, nodes: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Look whether the machines can become what the stack wants. Changes nothing on them.

    Exit code 1 when something stops the road on a machine, 2 when one could not be looked at; warnings alone are 0.
    """
    from fleet.cli import preflight

    wanted = preflight.wanted(stack, *common.load_typed_stack(stack), nodes)
    reports = preflight.look(wanted, common.progress)
    if as_json:
        click.echo(preflight.to_json(reports))
    else:
        click.echo("\n\n".join([preflight.as_table(reports, everything), *preflight.problems(reports)]))
    if any(report.error for report in reports):
        sys.exit(2)
    if any(report.faults for report in reports):
        sys.exit(1)


@main.command("show")
@common.stack_option
@common.told
def show_(stack: str) -> None:
    """Show what serves where, what it proved, and how long each phase took."""
    outputs = stack_outputs.outputs(stack)
    click.echo("\n\n".join([table.table(outputs), *table.failures(outputs, stack)]))
    click.echo()
    click.echo(table.paste(outputs, stack))


def _outputs(stack: str) -> dict[str, Any]:
    """Return the stack's outputs; which nodes' last change failed is shown beside the report."""
    outputs = stack_outputs.outputs(stack)
    for message in table.failures(outputs, stack):
        common.progress(message)
    return outputs


@main.command()
@common.stack_option
@click.argument("replica", default="", metavar="[NODE/REPLICA]")
@click.option("--port", default=8000, show_default=True, help="Port on this machine; 0 takes a free one.")
@common.told
def forward(stack: str, replica: str, port: int) -> None:
    """Keep a tunnel to a replica open, until ^C."""
    outputs = _outputs(stack)
    chosen = stack_outputs.choose(outputs, replica)[0]
    with stack_outputs.tunnel(chosen, port) as url:
        click.echo(f"{chosen.name} answers at {url} (^C closes the tunnel)")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@main.command()
@common.stack_option
@click.argument("replica", default="", metavar="[NODE/REPLICA]")
@click.option("--case", "cases", multiple=True, help="Ask only this case; may be given again.")
@click.option("--min-iou", default=0.5, show_default=True, help="From which overlap on a box counts as found.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--junit", type=FILE, help="Write a JUnit report.")
@click.option("--html", type=FILE, help="Write a page with each picture, the true and the answered box.")
@common.told
def probe(
    stack: str,
    replica: str,
    cases: tuple[str, ...],
    min_iou: float,
    as_json: bool,
    junit: Path | None,
    html: Path | None,
) -> None:
    """Ask each replica what is in the pictures; exit code 1 when an answer is wrong that a replica must give to be ready."""
    from fleet import probes
    from fleet.probes import report
    from fleet.stack import stack_file

    extra = stack_file.read(stack, common.root()).probes.extra
    asked = probes.load(cases, min_iou, common.root() / extra if extra else None)
    outputs = _outputs(stack)
    key = outputs.get("api_key") or stack_outputs.configured_key(stack)
    verdicts: list[probes.Verdict] = []
    for chosen in stack_outputs.choose(outputs, replica):
        named = [replace(case, name=f"{chosen.name} {case.name}") for case in asked]
        with stack_outputs.tunnel(chosen) as url:
            verdicts += probes.run(url, key, chosen.model, named, common.quiet if as_json else common.progress)
    click.echo(report.to_json(verdicts) if as_json else report.table(verdicts))
    if junit:
        junit.write_text(report.to_junit(verdicts))
    if html:
        html.write_text(report.to_html(verdicts))
    if any(verdict.refused for verdict in verdicts):
        sys.exit(1)


@main.command("verify")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@partial(common.told, code=2)
def verify_(stack: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Read every byte of the weights and compare with what was recorded when they were fetched; and the replicas' images.

    Exit code 1 when something differs, 2 when a node could not be looked at. A file that is wrong gets the present time, and
    nothing else: so the next `pulumi up --refresh` sees it and fetches it again.
    """
    from fleet.cli import verify

    verdicts = verify.look(stack, nodes, common.progress)
    if as_json:
        click.echo(verify.to_json(verdicts))
    else:
        click.echo("\n".join([verify.as_table(verdicts), *verify.problems(verdicts, stack)]))
    if any(one.wrong for one in verdicts):
        sys.exit(1)
    if any(one.error for one in verdicts):
        sys.exit(2)


@main.command("accept")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@partial(common.told, code=2)
def accept_(stack: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks of docs/acceptance.md on machines whose GPUs nobody uses, and compare with what they must reach.

    Exit code 1 when a machine did not pass, 2 when one could not be measured. All that the benchmarks print is kept in .pulumi/evidence/.
    """
    from fleet.acceptance import catalogue
    from fleet.cli import accept as run
    from fleet.cli import accept_report as report

    settings, _ = common.load_stack(stack)
    reports = run.look(stack, settings, catalogue.load(settings.acceptance.commands), nodes, common.progress)
    if as_json:
        click.echo(report.to_json(reports))
    else:
        click.echo("\n".join([report.as_table(reports), *report.problems(reports)]))
    if any(not one.passed and not one.error for one in reports):
        sys.exit(1)
    if any(one.error for one in reports):
        sys.exit(2)


@main.command()
@click.argument("case")
@click.option(
    "--model", default="zai-org/GLM-4.6V", show_default=True, help="The name under which the model is served."
)
@click.option("--extra", type=FOLDER, help="A folder with cases of your own: probes.extra of a stack file.")
@common.told
def request(case: str, model: str, extra: Path | None) -> None:
    """Print the JSON body of one probe's request."""
    from fleet import probes

    click.echo(json.dumps(probes.load([case], extra=extra)[0].body(model)))


if __name__ == "__main__":
    main()
