"""`fleet show`: print the outputs of a stack as a table, and commands to paste. stack_outputs.py reads the outputs, endpoint.py has the gateway's part."""

import datetime
import shlex
from collections.abc import Mapping
from typing import Any

import click

from fleet.cli import backup_age, common, endpoint, node_rotation, pods, stack_outputs
from fleet.cli.stack_outputs import Outputs
from fleet.cli.table import columns, phases, short
from fleet.managed import rotation

HEAD = ("node", "replica", "image", "transformers", "weights", "probes", "time by phase")


@click.command("show")
@common.stack_option
@common.exit_on_error()
def command(stack: str) -> None:
    """Show what serves where, its probe results, and how long each phase took.

    Warns where the last backup on this machine is older than the last `up`. Ends with commands to paste: a request with a picture to the gateway,
    by curl and by the OpenAI library; of a stack without a gateway a tunnel to a replica, and a request through it.
    """
    outputs = stack_outputs.outputs(stack)
    entry = endpoint.of(outputs)
    age = backup_age.line(stack, outputs["saved"], datetime.datetime.now(datetime.UTC))
    parts = [table(outputs), *_rotation(outputs, stack), age, *([endpoint.report(entry, stack)] if entry else [])]
    click.echo("\n\n".join([*parts, *stack_outputs.failures(outputs, stack)]))
    click.echo()
    if entry:
        model = stack_outputs.replicas(outputs)[0].model
        click.echo(endpoint.paste(entry, stack, model, client_key(stack), endpoint.resolves(entry.host)))
    else:
        click.echo(paste(outputs, stack))


def client_key(stack: str) -> str:
    """Return the file with a client's key: that of a lab, which bootstrap/stack.sh made, else the name that the help of `fleet key` uses."""
    root, file = common.root(), common.state_folder() / "lab" / f"{stack}.key"
    if not file.is_file():
        return endpoint.KEY
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def table(outputs: Outputs) -> str:
    """Return one line per replica: its node, what it serves, its probe results, the seconds of each phase."""
    if outputs.get("rollouts"):
        return pods.table(outputs["rollouts"])
    lines = [line for node, evidence in outputs.get("replicas", {}).items() for line in _lines(node, evidence)]
    return columns([HEAD, *lines])


def _rotation(outputs: Outputs, stack: str) -> list[str]:
    """Return what is drained and what does not answer, in one text; a stack of machines without a gateway has no drains."""
    if outputs.get("rollouts"):
        from fleet.cli import pod_nodes  # only stacks on a cluster need it

        lines = pod_nodes.lines(outputs["rollouts"], stack)
    else:
        answers = rotation.looks(node_rotation.targets(outputs)) if outputs.get("endpoint") else {}
        lines = node_rotation.lines(answers, shlex.quote(stack))
    return ["\n".join(lines)] if lines else []


def paste(outputs: Outputs, stack: str, case: str = "bottle-grounding") -> str:
    """Return two commands for two shells in this folder: a tunnel to the first replica, and a question with a picture."""
    first = stack_outputs.replicas(outputs)[0]
    here = 'eval "$(make env)"; '  # a new shell has neither `fleet` nor `pulumi`
    return (
        f"{here}fleet forward -s {shlex.quote(stack)} {shlex.quote(first.name)} --port 8000\n"
        f"{here}fleet request {shlex.quote(case)} --model {shlex.quote(first.model)}"
        " | curl -s http://127.0.0.1:8000/v1/chat/completions"
        # a file that is not on disk: every user of this machine could read the key among curl's arguments
        f' -H @<(echo "Authorization: Bearer $(pulumi stack output api_key --show-secrets -s {shlex.quote(stack)})")'
        " -H 'Content-Type: application/json' -d @-"
    )


def _lines(node: str, evidence: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    if evidence is None:
        return [(node, "failed", *["-"] * 5)]
    probes = evidence.get("probes") or {}
    shared = (
        short(evidence.get("image", "")),
        short(evidence.get("commit", "")),
        short(evidence.get("revision", "")),
        f"{probes['passed']:.0f}/{probes['total']:.0f}" if probes else "none",
        phases(evidence.get("seconds") or {}),
    )
    return [(node, replica["name"], *shared) for replica in evidence.get("replicas") or ({"name": "-"},)]
