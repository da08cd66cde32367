"""`fleet mirrors`: list what the machines of a stack fetch, and from where. Reads only the stack file; fleet.stack.mirrors has the list."""

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
        item for name in settings.present for item in mirrors.items(validate.machine_plan(settings, roles, name).values)
    ]
    rows = [
        (item.kind, item.name, table.size(item.bytes) if item.bytes else "-", item.source)
        for item in dict.fromkeys([*items, *mirrors.gateway_items(settings), *mirrors.acceptance_items(settings)])
    ]
    click.echo(table.columns([("kind", "name", "size", "from"), *rows]))
