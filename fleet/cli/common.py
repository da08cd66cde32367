"""The shared parts of the verbs of `fleet`: the stack option, the stack's settings, the exit code after an error, progress lines.

Needs click; a function that reads a stack file imports the reader itself, so that other verbs start fast. Called by each verb.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet import errors, findings

if TYPE_CHECKING:
    from fleet.stack import role_vars, settings

Verb = Callable[..., None]

ROOT = Path(__file__).resolve().parents[2]
stack_option = click.option("-s", "--stack", required=True, help="The stack, as `pulumi -s` names it.")


def exit_on_error(code: int = 1) -> Callable[[Verb], Verb]:
    """Return a decorator for a verb that prints a FleetError on stderr and ends the process with exit code `code`."""

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def run(*args: Any, **kwargs: Any) -> None:
            try:
                verb(*args, **kwargs)
            except errors.FleetError as error:
                for text in (str(error), *getattr(error, "__notes__", ())):
                    click.echo(text, err=True)
                sys.exit(code)

        return run

    return decorate


def load_stack(stack: str) -> "tuple[settings.Settings, role_vars.Roles]":
    """Return the settings of a stack file, and the roles' variables with their defaults and types."""
    from fleet.stack import role_vars, stack_file

    return stack_file.read(stack, root()), role_vars.load(ROOT / "roles")


def load_typed_stack(stack: str) -> "tuple[settings.Settings, role_vars.Roles]":
    """Return the same with checked names and types of the stack's role variables. Raises SettingsError for the first wrong one."""
    from fleet.stack import validate

    loaded, roles = load_stack(stack)
    result = validate.validate(loaded, roles, f"stacks/Pulumi.{stack}.yaml", findings.today())
    if result.mistyped:
        raise errors.first(result.mistakes)
    return loaded, roles


def chosen(
    verb: str, names: Sequence[str], nodes: Sequence[str], seen: str, next_step: Callable[[str], str]
) -> list[str]:
    """Return the nodes that a verb works on: the named ones, or all without a name. Raises FleetError for a name that is no such node."""
    for name in names or ([] if nodes else ["any node"]):
        if name not in nodes:
            wanted = ", ".join(nodes) or "a stack that is up"
            raise errors.FleetError(node=name, doing=verb, seen=seen, wanted=wanted, next=next_step(name))
    return [node for node in nodes if not names or node in names]


def root() -> Path:
    """Return the project folder: the nearest one upwards with a Pulumi.yaml, as for Pulumi, else that of this installation."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").is_file()), ROOT)


def state_folder() -> Path:
    """Return the folder with this controller's own files: FLEET_STATE (bootstrap/env.sh), or .pulumi of the project."""
    return Path(os.environ.get("FLEET_STATE") or root() / ".pulumi")


def progress(text: str) -> None:
    """Print a progress line on stderr, apart from the report."""
    click.echo(text, err=True)
