"""`fleet drain`: take a node or one of its replicas out of rotation by hand. fleet.managed.rotation does it, node_rotation.py counts who serves."""

import shlex
import sys
import threading
from collections.abc import Callable

import click

from fleet import errors, ssh
from fleet.cli import common, node_rotation, pods, stack_outputs
from fleet.managed import rotation
from fleet.stack import stack_file


@click.command("drain")
@common.stack_option
@click.argument("place", metavar="NODE[/REPLICA]")
@click.option("--even-last", is_flag=True, help="Also take out the last node that serves: clients then get errors.")
@common.exit_on_error(2)
def command(stack: str, place: str, even_last: bool) -> None:
    """Take a node or a replica out of rotation until `fleet undrain`.

    Gateways send new requests elsewhere; those in flight end. It waits for them as long as `drain` of glm-fleet:change says. The drain
    survives reboots, and no `pulumi up` ends it. Needs a stack with a gateway.

    Exit code 1 when requests still run there at the end of that time, or a gateway may still send some; 2 for an error.
    """
    seconds = stack_file.read(stack, common.root()).change.drain
    outputs = stack_outputs.outputs_noting_failures(stack, common.progress)
    pods.leave_to_kubernetes(
        "drain",
        outputs.get("rollouts") or {},
        "drain NODE --pod-selector=glm-fleet/model --ignore-daemonsets --delete-emptydir-data",
    )
    node, replica = node_rotation.split("drain", outputs, place)
    targets = node_rotation.targets(outputs)
    answers = rotation.looks(targets)
    node_rotation.answer(answers, node, replica, "drain")
    for name in answers:
        if isinstance(answers[name], errors.FleetError):
            common.progress(f"{name} counts as out of service: {answers[name]}".splitlines()[0])
    left = node_rotation.serving(answers, node, replica)
    if not left and node in node_rotation.serving(answers) and not even_last:
        raise _last(place)
    back = f"`fleet undrain -s {shlex.quote(stack)} {shlex.quote(place)}` puts it back"
    try:
        with ssh.connect(targets[node]) as connection:
            drained = rotation.drain(
                connection, rotation.OPERATOR, seconds, _changes_only(), threading.Event(), replica
            )
    except KeyboardInterrupt:
        click.echo(f"{place} stays out of rotation; {back}", err=True)
        sys.exit(130)
    click.echo("\n".join([report(place, drained, seconds), f"{node_rotation.capacity(left, answers)}; {back}"]))
    if drained.running or drained.silent:
        sys.exit(1)


def _changes_only() -> Callable[[str], None]:
    """Return a function that prints a line unless it is the same as the line before."""
    last = [""]

    def note(text: str) -> None:
        if text != last[0]:
            common.progress(text)
        last[0] = text

    return note


def report(place: str, drained: rotation.Drained, seconds: float) -> str:
    """Return what is still in flight in words."""
    number = drained.running
    requests = f"{number} request{'' if number == 1 else 's'} still run{'s' if number == 1 else ''}"
    text = (
        f"{place} is out of rotation; {requests} there after {seconds:g} s (`drain` of glm-fleet:change): what stops it cuts them"
        if number
        else f"{place} is out of rotation, and nothing is in flight there"
    )
    silent = f"{', '.join(drained.silent)} did not ask whether it is ready, and may still send to it"
    return f"{text}\n{silent}" if drained.silent else text


def _last(place: str) -> errors.FleetError:
    return errors.FleetError(
        node=place,
        doing="drain",
        seen="without it no node serves, and clients get errors",
        wanted="another node that serves",
        next="bring one back (`fleet show` says why they do not serve), or give --even-last",
    )
