"""`fleet rollback`: put the image, the flags and the weights of an earlier good state into the stack file, after a look at what that costs.

good_states.py has the states, served_edit.py changes the file, rollback_costs.py asks registry and nodes. `pulumi up` then changes the nodes.
"""

import difflib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from fleet import errors
from fleet.cli import common, good_states, rollback_costs, served_edit, stack_edit, table
from fleet.cli.good_states import Update
from fleet.stack import served_values, stack_file

HEAD = ("", "reached", "commit", "image", "weights", "values that differ from the stack file")
DOING = "go back to a good state"


@click.command("rollback")
@common.stack_option
@click.option("--list", "listed", is_flag=True, help="List the good states, and change nothing.")
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Go to this one of the list.")
@click.option("--build", is_flag=True, help="Also where the image must be built again.")
@click.option("--download", is_flag=True, help="Also where weights must be fetched again.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@common.exit_on_error()
def command(stack: str, listed: bool, number: int | None, build: bool, download: bool, yes: bool) -> None:
    """Put the image, flags and weights of the last good state into the stack file.

    That is the newest update that ended well, with its probes, and had other values than the stack file has now. Shows the difference and
    the preview, and writes after a yes; `pulumi up` then goes back in turns. Drivers and settings of the host do not go back.
    """
    path = common.root() / "stacks" / f"Pulumi.{stack}.yaml"
    file = f"stacks/{path.name}"
    reviewed = stack_file.read(stack, common.root()).review
    config = yaml.safe_load(path.read_text())["config"]
    states = good_states.read(stack)
    if listed:
        click.echo(as_table(states, config))
        return
    state = choose(states, config, number)
    document = stack_edit.Document(path)
    text = served_edit.edited(document, served_values.replaced(config, state.settings), file)
    click.echo(f"{file} goes back to the state of {when(state)}\n\n{difference(path.read_text(), text, file)}")
    with tempfile.NamedTemporaryFile("w", prefix=f"Pulumi.{stack}.", suffix=".yaml") as draft:
        draft.write(text)
        draft.flush()
        before, after = (stack_file.read_as(Path(content), path) for content in (path, draft.name))
        for line in rollback_costs.check(stack, before, after, build=build, download=download):
            click.echo(line)
        preview(stack, draft.name)
    if not yes and not click.confirm(f"Write these into {file}"):
        click.echo("nothing was written")
        sys.exit(1)
    stack_edit.replace(path, text)
    quoted = shlex.quote(stack)
    step = (
        f"`fleet review -s {quoted} --out FILE`; once it is signed, `fleet apply FILE`"
        if reviewed
        else f"`pulumi up -s {quoted} --policy-pack policies`"
    )
    click.echo(f"{file}: written\n  next:   {step} goes back, in turns")


def choose(states: Sequence[Update], config: dict[str, object], number: int | None) -> Update:
    """Return the state of that number, else the newest one with other values than the stack file. Raises FleetError."""
    if number and number > len(states):
        raise errors.FleetError(
            doing=DOING, seen=f"there is no state {number}", wanted=f"1 to {len(states)}, of --list"
        )
    candidates = states[number - 1 : number] if number else states
    current = served_values.of(config)
    for state in candidates:
        if served_values.replaced(config, state.settings) != current:
            return state
    if number:
        seen = f"the state of {when(candidates[0])} has the values of the stack file already"
    elif states:
        seen = "every recorded good state has the values of the stack file"
    else:
        seen = "none is recorded: no `pulumi up` of the whole stack has ended well here"
    raise errors.FleetError(
        doing=DOING,
        seen=seen,
        wanted="an update that ended well, with other values",
        next="`git log -p stacks/` has earlier values; a restored backup brings its good states with it",
    )


def when(state: Update) -> str:
    """Return when the state was reached, and its commit."""
    return f"{state.endTime:%Y-%m-%d %H:%M} UTC{f', commit {state.commit[:12]}' if state.commit else ''}"


def difference(before: str, after: str, file: str) -> str:
    """Return the difference of two texts of a stack file."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), file, file, n=1, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def as_table(states: Sequence[Update], config: dict[str, object]) -> str:
    """Return the good states, the newest first."""
    rows = []
    for number, state in enumerate(states, 1):
        own = served_values.of(state.settings)
        base = own.get((served_values.VARS, "transformers_base_image")) or own.get((served_values.KUBERNETES, "image"))
        revision = own.get((served_values.VARS, "weights_revision"))
        wanted, current = served_values.replaced(config, state.settings), served_values.of(config)
        changed = sorted({path[-1] for path in wanted.keys() | current.keys() if wanted.get(path) != current.get(path)})
        names = (table.short(str(base or "-")), table.short(str(revision or "-")), ", ".join(changed) or "none")
        rows.append((str(number), f"{state.endTime:%Y-%m-%d %H:%M}", table.short(state.commit or "-"), *names))
    return table.columns([HEAD, *rows]) if rows else "no good state is recorded"


def preview(stack: str, content: str) -> None:
    """Run a preview of the stack with the content of another file. Raises FleetError when it fails."""
    command = ["pulumi", "preview", "--policy-pack", "policies", "--config-file", content, "-s", stack]
    sys.stdout.flush()
    if code := subprocess.run(command, cwd=common.root(), check=False).returncode:
        raise errors.FleetError(
            doing="preview the good state",
            seen=f"`pulumi preview` ended with {code}: nothing was written",
            wanted="a preview without an error",
            next="correct what it reports in the stack file, then again; or another state of --list",
        )
