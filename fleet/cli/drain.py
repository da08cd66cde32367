"""`fleet drain`: take a node or one of its replicas out of rotation by hand. fleet.managed.rotation does it, node_rotation.py counts who serves.

On a cluster pod_drain.py does it.
"""

import shlex
import sys
import threading
from collections.abc import Callable

import click

from fleet import errors, ssh
from fleet.cli import common, node_rotation, stack_outputs
from fleet.managed import rotation
from fleet.stack import stack_file


@click.command("drain")
@common.stack_option
@click.argument("place", metavar="NODE[/REPLICA]")
@click.option("--even-last", is_flag=True, help="Also take out the last node that serves: clients then get errors.")
@click.option(
    "--wait", default=600.0, show_default=True, help="On a cluster: the seconds in which its pods must have gone."
)
@common.exit_on_error(2)
def command(stack: str, place: str, even_last: bool, wait: float) -> None:
    """Take a node or a replica out of rotation until `fleet undrain`.

    Gateways send new requests elsewhere; those in flight end. It waits for them as long as `drain` of glm-fleet:change says. The drain
    survives reboots, and no `pulumi up` ends it. Needs a stack with a gateway.

    On a Kubernetes cluster it cordons the node and evicts the stack's own pods, as far as their disruption budget allows. Needs the rights that
    `fleet rights --drain` prints.

    Exit code 1 when requests still run there at the end of that time, a gateway may still send some, or pods are still there; 2 for an error.
    """
    loaded = stack_file.read(stack, common.root())
    if loaded.kubernetes:
        _on_cluster(stack, place, even_last, wait)
        return
    seconds = loaded.change.drain
    outputs = stack_outputs.outputs_noting_failures(stack, common.progress)
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


def _on_cluster(stack: str, node: str, even_last: bool, seconds: float) -> None:
    from fleet.cli import pod_drain  # only stacks on a cluster need it

    rollouts = stack_outputs.deployed(stack).get("Rollout") or {}
    report, empty = pod_drain.out(stack, rollouts, node, even_last, seconds, _changes_only())
    click.echo(report)
    if not empty:
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
