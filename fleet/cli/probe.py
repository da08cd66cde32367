"""`fleet probe`: send the probes to the replicas of a stack through SSH tunnels, and report the answers. fleet.probes has both."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from fleet import probes
from fleet.cli import common, stack_outputs
from fleet.probes import report
from fleet.stack import stack_file

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("probe")
@common.stack_option
@click.argument("replica", default="", metavar="[NODE/REPLICA]")
@click.option("--case", "cases", multiple=True, help="Send only this case; may be given again.")
@click.option(
    "--min-iou", default=0.5, show_default=True, help="Smallest overlap with the true box that counts as found."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--junit", type=FILE, help="Write a JUnit report.")
@click.option("--html", type=FILE, help="Write a page with each picture, the true and the answered box.")
@common.exit_on_error()
def command(
    stack: str,
    replica: str,
    cases: tuple[str, ...],
    min_iou: float,
    as_json: bool,
    junit: Path | None,
    html: Path | None,
) -> None:
    """Send the probes to each replica and check its answers.

    Exit code 1 when a replica fails a probe that it must pass to be ready.
    """
    extra = stack_file.read(stack, common.root()).probes.extra
    loaded = probes.load(cases, min_iou, common.root() / extra if extra else None)
    outputs = stack_outputs.outputs_noting_failures(stack, common.progress)
    key = outputs.get("api_key") or stack_outputs.configured_key(stack)
    results: list[probes.ProbeResult] = []
    for chosen in stack_outputs.choose(outputs, replica):
        named = [replace(case, name=f"{chosen.name} {case.name}") for case in loaded]
        with stack_outputs.tunnel(chosen) as url:
            results += probes.run(url, key, chosen.model, named, (lambda _: None) if as_json else common.progress)
    click.echo(report.to_json(results) if as_json else report.table(results))
    if junit:
        junit.write_text(report.to_junit(results))
    if html:
        html.write_text(report.to_html(results))
    if any(result.refused for result in results):
        sys.exit(1)
