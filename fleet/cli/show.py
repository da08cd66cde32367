"""`fleet show`: the outputs of a stack as a table, and two commands to paste."""

import shlex
from collections.abc import Mapping
from typing import Any

import click

from fleet.cli import common, stack_outputs
from fleet.cli.stack_outputs import Outputs
from fleet.cli.table import columns

HEAD = ("node", "replica", "image", "transformers", "weights", "probes", "time by phase")
SHORT = 12  # hex digits of a digest or commit: enough to distinguish two, short enough for one line


@click.command("show")
@common.stack_option
@common.exit_on_error()
def command(stack: str) -> None:
    """Show what serves where, its probe results, and how long each phase took.

    Ends with two commands to paste: a tunnel to a replica, and a request with a picture.
    """
    outputs = stack_outputs.outputs(stack)
    click.echo("\n\n".join([table(outputs), *stack_outputs.failures(outputs, stack)]))
    click.echo()
    click.echo(paste(outputs, stack))


def table(outputs: Outputs) -> str:
    """Return one line a replica: where it runs, what exactly it serves, what it proved, how long that took."""
    lines = [line for node, seen in outputs.get("replicas", {}).items() for line in _lines(node, seen)]
    return columns([HEAD, *lines])


def paste(outputs: Outputs, stack: str, case: str = "bottle-grounding") -> str:
    """Return two commands for two shells in this folder: a tunnel to the first replica, and a question with a picture."""
    node, seen = next((node, seen) for node, seen in outputs["replicas"].items() if seen and seen["replicas"])
    first = seen["replicas"][0]
    here = 'eval "$(make env)"; '  # a new shell has neither `fleet` nor `pulumi`
    return (
        f"{here}fleet forward -s {shlex.quote(stack)} {shlex.quote(f'{node}/' + first['name'])} --port 8000\n"
        f"{here}fleet request {shlex.quote(case)} --model {shlex.quote(first['model'])}"
        " | curl -s http://127.0.0.1:8000/v1/chat/completions"
        # a file, though none on disk: among curl's arguments everybody on this machine would see the key
        f' -H @<(echo "Authorization: Bearer $(pulumi stack output api_key --show-secrets -s {shlex.quote(stack)})")'
        " -H 'Content-Type: application/json' -d @-"
    )


def _lines(node: str, seen: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    if seen is None:
        return [(node, "failed", *["-"] * 5)]
    probes = seen.get("probes") or {}
    shared = (
        short(seen.get("image", "")),
        short(seen.get("commit", "")),
        short(seen.get("revision", "")),
        f"{probes['passed']:.0f}/{probes['total']:.0f}" if probes else "none",
        phases(seen.get("seconds") or {}),
    )
    return [(node, replica["name"], *shared) for replica in seen.get("replicas") or ({"name": "-"},)]


def short(name: str) -> str:
    """Return the first hex digits of a digest or a commit."""
    return name.rpartition("sha256:")[2][:SHORT] or "-"


def phases(seconds: Mapping[str, float]) -> str:
    """Return seconds by role as `docker 31 s, vllm 48 s`, phases under half a second left out."""
    return ", ".join(f"{role} {taken:.0f} s" for role, taken in seconds.items() if taken >= 0.5) or "-"
