"""`fleet request`: print the body of one probe's request, for `curl -d @-`. Needs no stack."""

import json
from pathlib import Path

import click

from fleet import probes
from fleet.cli import common

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command("request")
@click.argument("case")
@click.option(
    "--model", default="zai-org/GLM-4.6V", show_default=True, help="The name under which the model is served."
)
@click.option("--extra", type=FOLDER, help="A folder with cases of your own: probes.extra of a stack file.")
@common.exit_on_error()
def command(case: str, model: str, extra: Path | None) -> None:
    """Print the JSON body of one probe's request."""
    click.echo(json.dumps(probes.load([case], extra=extra)[0].body(model)))
