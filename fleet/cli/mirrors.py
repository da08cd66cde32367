"""`fleet mirrors`: what the machines of a stack fetch, and from where. Reads the stack file only."""

import click

from fleet.cli import common, table
from fleet.stack import mirrors, validate


@click.command("mirrors")
@common.stack_option
@common.exit_on_error()
def command(stack: str) -> None:
    """List what the machines of a stack fetch, and from where.

    For machines without a way out: what their mirrors must hold (`mirrors:` in the stack file).
    """
    settings, roles = common.load_typed_stack(stack)
    items = [
        one for name in settings.present for one in mirrors.items(validate.machine_plan(settings, roles, name).values)
    ]
    rows = [
        (one.kind, one.name, table.size(one.bytes) if one.bytes else "-", one.source)
        for one in dict.fromkeys([*items, *mirrors.acceptance_items(settings)])
    ]
    click.echo(table.columns([("kind", "name", "size", "from"), *rows]))
