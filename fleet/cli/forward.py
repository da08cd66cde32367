"""`fleet forward`: open a tunnel from this machine to a replica. stack_outputs.py finds the replica and opens the tunnel."""

import contextlib
import threading

import click

from fleet.cli import common, stack_outputs


@click.command("forward")
@common.stack_option
@click.argument("replica", default="", metavar="[NODE/REPLICA]")
@click.option("--port", default=8000, show_default=True, help="Port on this machine; 0 takes a free one.")
@common.exit_on_error()
def command(stack: str, replica: str, port: int) -> None:
    """Keep a tunnel to a replica open, until ^C."""
    outputs = stack_outputs.outputs_noting_failures(stack, common.progress)
    chosen = stack_outputs.choose(outputs, replica)[0]
    with stack_outputs.tunnel(chosen, port) as url:
        click.echo(f"{chosen.name} answers at {url} (^C closes the tunnel)")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
