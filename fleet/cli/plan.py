"""`fleet plan`: show how the replicas of a stack file fit on their GPUs, and the mistakes in the file. Opens no connection."""

import sys

import click

from fleet import findings
from fleet.cli import common
from fleet.stack import capacity, validate


@click.command("plan")
@common.stack_option
@common.exit_on_error()
def command(stack: str) -> None:
    """Check a stack file and show how its replicas fit on the GPUs.

    Shows the GPUs of each replica, the use of each GPU's memory and the tokens in the cache. Exit code 1 when the stack file has an
    error.
    """
    settings, roles = common.load_stack(stack)
    result = validate.validate(settings, roles, f"stacks/Pulumi.{stack}.yaml", findings.today())
    if not result.mistyped:
        click.echo(capacity.report(settings, roles))
    for level, results in (("error", result.mistakes), ("warning", result.warnings)):
        for finding in results:
            click.echo(f"\n{level}: {finding}")
    if result.mistakes:
        sys.exit(1)
