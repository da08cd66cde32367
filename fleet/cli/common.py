"""What the verbs of `fleet` share: the option that names the stack, its file, how a verb ends with an error, how progress is shown.

Needs click; what reads a stack file is imported where it is used. Used by fleet.cli.main alone.
"""

import datetime
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fleet import errors

if TYPE_CHECKING:
    from fleet.stack import role_vars, settings

Verb = TypeVar("Verb", bound=Callable[..., None])

ROOT = Path(__file__).resolve().parents[2]
stack_option = click.option("-s", "--stack", required=True, help="The stack, as `pulumi -s` names it.")


def told(verb: Verb, code: int = 1) -> Verb:
    """Let a verb end with the message of a FleetError and this exit code instead of a traceback."""

    @wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except errors.FleetError as error:
            for text in (str(error), *getattr(error, "__notes__", ())):
                click.echo(text, err=True)
            sys.exit(code)

    return run  # type: ignore[return-value]


def load_stack(stack: str) -> "tuple[settings.Settings, role_vars.Roles]":
    """Return what the stack file says, and what the roles know."""
    from fleet.stack import role_vars, stack_file

    return stack_file.read(stack, root()), role_vars.load(ROOT / "roles")


def load_typed_stack(stack: str) -> "tuple[settings.Settings, role_vars.Roles]":
    """Return the same of a stack file whose variables have names and types that the roles know. Raises SettingsError."""
    from fleet.stack import settings, validate

    judged, roles = load_stack(stack)
    found = validate.judge(judged, roles, f"stacks/Pulumi.{stack}.yaml", today())
    if found.mistyped:
        raise settings.first(found.mistakes)
    return judged, roles


def today() -> datetime.date:
    """Return the day in UTC."""
    return datetime.datetime.now(tz=datetime.UTC).date()


def root() -> Path:
    """Return the project that this command stands in, as Pulumi finds it; the one it is installed from where it stands in none."""
    here = Path.cwd()
    return next((one for one in (here, *here.parents) if (one / "Pulumi.yaml").is_file()), ROOT)


def quiet(_text: str) -> None:
    """Say nothing: the output is for a program."""


def progress(text: str) -> None:
    """Show where we are beside the report, not in it."""
    click.echo(text, err=True)
