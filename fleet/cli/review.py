"""`fleet review`: preview a change and report it. fleet.review has the report and its forms, preview.py runs Pulumi."""

import json
import sys
from pathlib import Path

import click

from fleet.cli import common, preview
from fleet.review import markdown, moved, outline, page, report

FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING = click.Path(path_type=Path, dir_okay=False, exists=True)
TERMINAL = "terminal"


@click.command("review")
@click.option("-s", "--stack", help="The stack, as `pulumi -s` names it.")
@click.option("--read", "earlier", type=EXISTING, help="Show this report again instead of making one.")
@click.option("--out", type=FILE, help="Write the report as JSON, for a signature and `fleet apply`.")
@click.option("--against", type=EXISTING, help="Say also what moved since this report.")
@click.option(
    "--format",
    "form",
    type=click.Choice([TERMINAL, "markdown", "html", "json"]),
    help="What is printed: on a terminal its visible part.",
)
@click.option(
    "--refresh/--no-refresh", default=True, help="Read the hosts first; without, drift is that of the last refresh."
)
@common.exit_on_error()
def command(
    stack: str | None, earlier: Path | None, out: Path | None, against: Path | None, form: str | None, refresh: bool
) -> None:
    """Report what a change does, before it is done: its verdict, reasons, evidence.

    Exit code 0: nothing to do; 10: safe; 11: needs a window; 12: destructive; 13: refused by a policy or a failure; 1: no report.
    """
    if bool(stack) == bool(earlier):
        raise click.UsageError("one of --stack and --read")
    before = report.read(against.read_text(), str(against)) if against else None
    now = report.read(earlier.read_text(), str(earlier)) if earlier else preview.report(str(stack), refresh)
    if out:
        out.write_text(dumped(now))
    form = form or (TERMINAL if sys.stdout.isatty() else "markdown")
    click.echo(rendered(now, form, moved.lines(before, now) if before else []), nl=False)
    if out and form == TERMINAL:
        click.echo(f"\nsign it: ssh-keygen -Y sign -n {report.NAMESPACE} -f KEY {out}\nthen:    fleet apply {out}")
    sys.exit(report.EXIT_CODES[now.verdict])


def rendered(now: report.Report, form: str, moves: list[str]) -> str:
    """Return the report in a form."""
    if form == "json":
        return dumped(now)
    lines = outline.outline(now, moves)
    if form == "html":
        return page.render(lines)
    if form == "markdown":
        return markdown.render(lines, f"glm-fleet review {now.stack}")
    return markdown.visible(lines)


def dumped(now: report.Report) -> str:
    """Return the report as JSON, in the one form that is signed."""
    return json.dumps(now.to_json(), indent=1, sort_keys=True) + "\n"
