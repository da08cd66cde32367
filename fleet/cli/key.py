"""`fleet key`: make, list and remove the keys of clients. The stack file gets the SHA-256 of a key; the key itself is printed once.

Reads and writes the stack file alone; `pulumi up` brings its content to the gateways. stack_entries.py changes the text.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import click
import pydantic

from fleet import errors, schema
from fleet.cli import common, stack_edit, stack_entries, table
from fleet.stack import gateway_form, settings, stack_file, validation_errors

PREFIX, BYTES = "glm-", 32  # of a key: its prefix says what it is for, its 256 bits are random
GATEWAY, CLIENTS = "glm-fleet:gateway", "glm-fleet:clients"
HEAD = ("client", "SHA-256 of its key", "requests a minute", "megabytes a minute", "at the same time")
LIMITS = {
    "requests_per_minute": "Requests in a minute",
    "megabytes_per_minute": "Megabytes of requests in a minute",
    "concurrent": "Requests at the same time",
}


def limit_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each limit of a client."""
    for field, words in reversed(LIMITS.items()):
        default = gateway_form.Client.model_fields[field].default
        option, text = f"--{field.replace('_', '-')}", f"{words} [default: {default}]."
        verb = click.option(option, field, type=click.IntRange(min=1), metavar="N", help=text)(verb)
    return verb


@click.group("key")
def command() -> None:
    """Make, list and remove the keys of clients."""


@command.command("add")
@common.stack_option
@click.argument("name")
@limit_options
@common.exit_on_error()
def add(stack: str, name: str, **limits: int | None) -> None:
    """Make a key for the client NAME and print it, once.

    Standard output has the key and nothing else. The stack file gets its SHA-256 and the limits.
    """
    file, loaded = _read(stack)
    if name in loaded.clients:
        raise errors.SettingsError(
            file=file,
            key=f"clients.{name}",
            seen="has a key already, which is kept nowhere",
            allowed="the name of a new client",
            next=f"`fleet key remove -s {stack} {name}`, then again; or another name: both keys are then valid",
        )
    key = PREFIX + secrets.token_urlsafe(BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = {"sha256": digest, **{field: limits[field] for field in LIMITS if limits[field] is not None}}
    _check(name, entry, file)
    path = common.root() / file
    stack_edit.replace(path, stack_entries.Text(path.read_text(), file).add(CLIENTS, name, entry, after=GATEWAY))
    common.progress(
        f"{file}: added {name} with the SHA-256 of its key; the key itself is shown only now"
        f"\n  next:   `pulumi up -s {stack}` makes it valid"
    )
    click.echo(key)


@command.command("list")
@common.stack_option
@common.exit_on_error()
def show(stack: str) -> None:
    """List the clients of a stack file with their limits."""
    file, loaded = _read(stack)
    if not loaded.clients:
        common.progress(f"{file} has no clients\n  next:   `fleet key add -s {stack} NAME` makes a key for one")
        return
    rows = [
        (name, client.sha256, *(str(getattr(client, field)) for field in LIMITS))
        for name, client in loaded.clients.items()
    ]
    click.echo(table.columns([HEAD, *rows]))


@command.command("remove")
@common.stack_option
@click.argument("name")
@common.exit_on_error()
def remove(stack: str, name: str) -> None:
    """Remove the client NAME from a stack file."""
    file, loaded = _read(stack)
    names = list(loaded.clients)
    if name not in names:
        raise errors.SettingsError(
            file=file,
            key="clients",
            value=name,
            seen="no client has this name",
            allowed=", ".join(names) or "a client: the stack has none",
            nearest=errors.nearest(name, names),
        )
    path = common.root() / file
    stack_edit.replace(path, stack_entries.Text(path.read_text(), file).remove(CLIENTS, name))
    common.progress(
        f"{file}: removed {name}; the gateways accept its key until the next update\n  next:   `pulumi up -s {stack}`"
    )


def _read(stack: str) -> tuple[str, settings.Settings]:
    """Return the name of the stack file and its settings. Raises SettingsError for a stack without a gateway."""
    file, loaded = f"stacks/Pulumi.{stack}.yaml", stack_file.read(stack, common.root())
    if loaded.gateway is None:
        raise errors.SettingsError(
            file=file,
            key="gateway",
            seen="this key is missing: there is no gateway that could ask clients for keys",
            allowed="`glm-fleet:gateway` with `nodes` and `name` (docs/endpoint.md)",
        )
    return file, loaded


def _check(name: str, entry: dict[str, Any], file: str) -> None:
    """Raise SettingsError for a name or a limit that the stack file may not have."""
    try:
        pydantic.TypeAdapter(dict[schema.Name, gateway_form.Client]).validate_python({name: entry})
    except pydantic.ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        field = mistake["loc"][1] if mistake["loc"][1] in entry else ""
        raise errors.SettingsError(
            file=file,
            key=f"clients.{name}.{field}" if field else "clients",
            value=mistake["input"],
            seen="is not allowed" if field else "has the wrong form",
            allowed=mistake["msg"] if field else validation_errors.FORMS[schema.NAME],
        ) from None
