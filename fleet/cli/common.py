"""The shared parts of the verbs of `fleet`: the stack option, the stack's settings, the exit code after an error, progress lines.

Needs click; a function that reads a stack file imports the reader itself, so that other verbs start fast. Called by each verb.
"""

import datetime
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet import errors

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
    from fleet.stack import settings, validate

    loaded, roles = load_stack(stack)
    result = validate.validate(loaded, roles, f"stacks/Pulumi.{stack}.yaml", today())
    if result.mistyped:
        raise settings.first(result.mistakes)
    return loaded, roles


def today() -> datetime.date:
    """Return the date in UTC."""
    return datetime.datetime.now(tz=datetime.UTC).date()


def root() -> Path:
    """Return the project folder: the nearest one upwards with a Pulumi.yaml, as for Pulumi, else that of this installation."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").is_file()), ROOT)


def quiet(_text: str) -> None:
    """Discard a progress line: the output is for a program."""


def progress(text: str) -> None:
    """Print a progress line on stderr, apart from the report."""
    click.echo(text, err=True)
