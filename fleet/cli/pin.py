"""`fleet pin`: replace each tag and branch in a stack file by the digest or commit that it names now.

Needs the stack's registry, git server and hub, or their mirrors (fleet.upstream asks them). stack_edit.py writes the file.
"""

import datetime
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fleet import errors, findings
from fleet.cli import common, stack_edit, table
from fleet.stack import mirrors, role_vars, rules, settings, validate
from fleet.stack.rules import members
from fleet.stack.rules.pins import COMMIT, IMAGE
from fleet.upstream import git, hub, registry

HEAD = ("where", "names", "which is now")
VARS, NODES, ACCEPTANCE = "glm-fleet:vars", "glm-fleet:nodes", "glm-fleet:acceptance"
# The images with a tag to resolve, and the other variables with those that have the place to look them up.
IMAGES = ("transformers_base_image", *members.IMAGES)
SOURCES = {
    **dict.fromkeys(IMAGES, ()),
    "transformers_commit": ("transformers_repository",),
    "weights_revision": ("weights_endpoint", "weights_repository"),
}


@click.command("pin")
@common.stack_option
@click.option("--yes", is_flag=True, help="Write without asking.")
@common.exit_on_error()
def command(stack: str, yes: bool) -> None:
    """Replace the tags and branches in a stack file by digests and commits.

    Shows what each tag or branch names now, and writes after a yes.
    """
    file = f"stacks/Pulumi.{stack}.yaml"
    pins = resolve(loose(*common.load_typed_stack(stack), file), common.progress)
    if not pins:
        click.echo(f"{file} names everything by digest or commit already")
        return
    click.echo(as_table(pins))
    if not yes and not click.confirm(f"Write these into {file}"):
        click.echo("nothing was written")
        sys.exit(1)
    for name in stack_edit.write(common.root() / file, file, [pin.edit(findings.today()) for pin in pins]):
        click.echo(f"{name}: written; `git diff {name}` shows it")


@dataclass(frozen=True)
class Loose:
    """One tag or branch: its key for messages, its `path` in the stack file, and the function that resolves it."""

    where: str
    path: tuple[str, ...]
    name: str
    ask: Callable[[], str]


@dataclass(frozen=True)
class Pin:
    """A loose name and its digest or commit."""

    loose: Loose
    value: str

    def edit(self, today: datetime.date) -> stack_edit.Edit:
        """Return the change of the stack file: the new value, with the tag or branch and the date as a comment."""
        label = self.loose.name.rpartition(":")[2]
        return stack_edit.Edit(self.loose.path, self.loose.name, self.value, f"{label}, {today.isoformat()}")


def loose(loaded: settings.Settings, roles: role_vars.Roles, file: str) -> list[Loose]:
    """Return every loose name, in the order of the stack file. Raises SettingsError for a shared one that a machine looks up elsewhere."""
    shared = {**roles.defaults, **roles.coerce(loaded.vars)}
    shared |= mirrors.mirrored_variables(loaded.mirrors, shared)
    names = [*_of(shared, loaded.vars, "vars", (VARS,))]
    for machine in loaded.machines if loaded.cluster else filter(loaded.gpus, loaded.machines):
        member, values = loaded.machines[machine], validate.machine_plan(loaded, roles, machine).values
        where = f"{loaded.key(machine)}.vars"
        names += _of(values, member.vars, where, (NODES, machine, "vars"))
        for item in names:
            key = item.path[-1]
            if item.path[0] == VARS and key not in member.vars and _sources(values, key) != _sources(shared, key):
                raise errors.SettingsError(
                    file=file,
                    key=f"{where}.{key}",
                    seen=f"this machine takes it from elsewhere, and {item.where} is {item.name!r} there, too",
                    allowed=f"{key} beside {' and '.join(SOURCES[key])}",
                )
    if (image := loaded.acceptance.image) and not _pinned(image):
        ask = functools.partial(_image, image, mirrors.mirrored_image(loaded.mirrors, image))
        names.append(Loose("acceptance.image", (ACCEPTANCE, "image"), image, ask))
    return names


def resolve(names: Sequence[Loose], note: Callable[[str], None]) -> list[Pin]:
    """Resolve each name; `note` gets a line for each. Raises FleetError for the first that cannot be resolved."""
    pins = []
    for item in names:
        note(f"{item.where}: {item.name}")
        pins.append(Pin(item, item.ask()))
    return pins


def as_table(pins: Sequence[Pin]) -> str:
    """Return a table with one line per pin: where, old name, new value."""
    return table.columns([HEAD, *((pin.loose.where, pin.loose.name, pin.value) for pin in pins)])


def _of(values: Mapping[str, Any], own: Mapping[str, Any], where: str, path: tuple[str, ...]) -> Iterator[Loose]:
    """Yield the loose names in `own`, the variables of a stack or a machine; `values` are all variables, with mirrors."""
    for key in SOURCES:
        name = str(own.get(key) or "")
        if name and not _pinned(name):
            yield Loose(f"{where}.{key}", (*path, key), name, functools.partial(_ask, key, name, values))


def _pinned(name: str) -> bool:
    return bool(IMAGE.match(name) or COMMIT.match(name))


def _sources(values: Mapping[str, Any], key: str) -> list[str]:
    return [str(values.get(source) or "") for source in SOURCES[key]]


def _ask(key: str, name: str, values: Mapping[str, Any]) -> str:
    if key in IMAGES:
        return _image(name, str(values[key]))
    if key == "transformers_commit":
        return git.commit(mirrors.filled_url(str(values["transformers_repository"]), values), name)
    return hub.commit(str(values["weights_endpoint"]), rules.MachinePlan(values, 0).repository, name)


def _image(name: str, mirror_name: str) -> str:
    """Return an image by digest; `mirror_name` is its name at the mirror, else the same."""
    return f"{name.rpartition(':')[0]}@{registry.digest(mirror_name)}"
