"""What a rollback needs that may be gone: the image in the registry, the weights on the nodes. Asks both, and changes nothing.

Called by rollback.py with the settings of the stack before and after.
"""

import shlex
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

from fleet import errors, ssh
from fleet.cli import common, stack_outputs, table
from fleet.stack import image_name, role_vars, settings, validate
from fleet.stack.rules import models
from fleet.upstream import registry

SECONDS = 20.0


def check(
    stack: str, before: settings.Settings, after: settings.Settings, build: bool, download: bool
) -> Iterator[str]:
    """Yield a line for each thing that costs time, or that nobody could look at. Raises FleetError for what `build` or `download` would allow."""
    roles = role_vars.load(common.ROOT / "roles")
    if after.kubernetes:
        yield from _cluster_image(before, after)
        return
    yield from _image(before, after, roles, build)
    yield from _weights(stack, before, after, roles, download)


def _cluster_image(before: settings.Settings, after: settings.Settings) -> Iterator[str]:
    assert after.kubernetes
    image = after.kubernetes.image
    if not before.kubernetes or before.kubernetes.image != image:
        yield from _look(image, "", None)


def _image(before: settings.Settings, after: settings.Settings, roles: role_vars.Roles, build: bool) -> Iterator[str]:
    """Look for the serving image where it differs; without a registry each node has its own, and the role looks for it there."""
    old, image = (image_name.of(_values(each, roles, each.builder), common.ROOT / "roles") for each in (before, after))
    if image and image != old:
        yield from _look(
            image, f"{after.builder} builds it again from {after.vars.get('transformers_base_image')}", build
        )


def _look(image: str, instead: str, allowed: bool | None) -> Iterator[str]:
    """Yield a line if the registry cannot be asked, or if what happens `instead` is allowed. Raises FleetError where the image is gone.

    `allowed` is None where nothing happens instead.
    """
    try:
        there = registry.exists(image)
    except errors.FleetError as error:
        yield f"not known whether the registry still has {image}: {error.seen}"
        return
    if there:
        return
    if not allowed:
        raise errors.FleetError(
            doing="go back to an earlier image",
            seen=f"the registry does not have {image} any more",
            wanted="the image of that state",
            next=f"--build: {instead}" if allowed is False else "push it again, or choose another state of --list",
        )
    yield f"the registry does not have {image} any more: {instead}"


def _weights(
    stack: str, before: settings.Settings, after: settings.Settings, roles: role_vars.Roles, download: bool
) -> Iterator[str]:
    """Ask the nodes whose weights differ whether they still have the earlier ones."""
    folders = {name: folder(_values(after, roles, name)) for name in after.serving}
    asked = {
        name: path
        for name, path in folders.items()
        if name not in before.machines or folder(_values(before, roles, name)) != path
    }
    if not asked:
        return
    nodes = stack_outputs.deployed(stack).get("Weights") or {}
    answers = look(
        {name: ssh.Target.from_inputs({**nodes[name]["node"], "name": name}) for name in asked if name in nodes}, asked
    )
    for name, answer in answers.items():
        if isinstance(answer, errors.FleetError):
            yield f"not known whether {name} still has {asked[name]}: {answer.seen}"
    gone = [name for name, answer in answers.items() if answer is False]
    if not gone:
        return
    values = _values(after, roles, gone[0])
    shape = models.shapes().get(str(values["weights_repository"]))
    size = f", {table.size(shape.weights)} each" if shape else ""
    seen = f"{', '.join(gone)} {'does' if len(gone) == 1 else 'do'} not have {asked[gone[0]]} any more"
    cost = f"fetched from {values['weights_endpoint']}{size}, before a replica restarts"
    if not download:
        raise errors.FleetError(
            doing="go back to earlier weights",
            seen=seen,
            wanted="the weights of that state",
            next=f"--download: {cost}",
        )
    yield f"{seen}: {cost}"


def look(targets: Mapping[str, ssh.Target], folders: Mapping[str, str]) -> dict[str, bool | errors.FleetError]:
    """Return for each node whether it has the manifest of its folder, or why it could not be asked."""

    def one(name: str) -> bool | errors.FleetError:
        try:
            with ssh.connect(targets[name]) as connection:
                return connection.run(f"test -s {shlex.quote(folders[name])}/manifest.json", timeout=SECONDS).rc == 0
        except errors.FleetError as error:
            return error

    with futures.ThreadPoolExecutor(max(1, min(32, len(targets)))) as pool:
        return dict(zip(targets, pool.map(one, targets), strict=True))


def folder(values: Mapping[str, Any]) -> str:
    """Return where the role weights keeps the model of these variables (`_weights_path` of roles/weights/vars/main.yml)."""
    return "/".join(str(values[f"weights_{part}"]).rstrip("/") for part in ("dir", "repository", "revision"))


def _values(loaded: settings.Settings, roles: role_vars.Roles, machine: str) -> Mapping[str, Any]:
    """Return a machine's role variables with their defaults."""
    return {**roles.defaults, **validate.machine_plan(loaded, roles, machine).values}
