"""`fleet undrain`: put a node or a replica back that an operator has drained. fleet.managed.rotation does it; on a cluster pod_drain.py."""

import shlex
import threading

import click

from fleet import errors, ssh
from fleet.cli import common, node_rotation, stack_outputs
from fleet.managed import rotation
from fleet.stack import stack_file


@click.command("undrain")
@common.stack_option
@click.argument("place", metavar="NODE[/REPLICA]")
@common.exit_on_error()
def command(stack: str, place: str) -> None:
    """Put a node or a replica back into rotation after `fleet drain`.

    It ends when the node proxy finds the replicas healthy. A drain of an unfinished turn is ended by `pulumi up`.

    On a Kubernetes cluster it uncordons the node, if `fleet drain` of this stack has cordoned it.
    """
    if stack_file.read(stack, common.root()).kubernetes:
        from fleet.cli import pod_drain  # only stacks on a cluster need it

        click.echo(pod_drain.back(stack, stack_outputs.deployed(stack).get("Rollout") or {}, place))
        return
    outputs = stack_outputs.outputs_noting_failures(stack, common.progress)
    node, replica = node_rotation.split("undrain", outputs, place)
    targets = node_rotation.targets(outputs)
    now = node_rotation.answer(rotation.looks({node: targets[node]}), node, replica, "undrain")
    if replica not in now.drains:
        click.echo(f"{place} is not drained")
    else:
        if (now.marks.get(replica) if replica else now.mark) == rotation.TURN:
            raise _of_a_turn(stack, place, now.drains[replica])
        with ssh.connect(targets[node]) as connection:
            rotation.undrain(connection, rotation.OPERATOR, threading.Event(), replica)
        click.echo(f"{place} is back in rotation")
    answers = rotation.looks(targets)
    lines = node_rotation.lines(answers, shlex.quote(stack))
    click.echo("\n".join([node_rotation.capacity(node_rotation.serving(answers), answers), *lines]))


def _of_a_turn(stack: str, place: str, words: str) -> errors.FleetError:
    return errors.FleetError(
        node=place,
        doing="undrain",
        seen=words,
        wanted="a drain by `fleet drain`",
        next=f"`pulumi up -s {stack}` ends the turn. Where no `up` is possible: `fleet drain`, which takes it over, then `fleet undrain`",
    )
