"""Reads a stack file from disk without Pulumi, so that no backend and no passphrase is needed.

Leaves out secrets, which are encrypted there. Called by fleet.cli and bootstrap/backup.sh; under Pulumi fleet.program.config reads the stack.
"""

from pathlib import Path
from typing import Any

from fleet import errors
from fleet.stack import inventory, settings, user_file

PROJECT = "glm-fleet"
PREFIX = f"{PROJECT}:"


def read(name: str, root: Path) -> settings.Settings:
    """Return the settings of a stack. Raises SettingsError when the file is missing or has a mistake."""
    file = root / "stacks" / f"Pulumi.{name}.yaml"
    stacks = sorted(path.name.split(".")[1] for path in file.parent.glob("Pulumi.*.yaml"))
    if name not in stacks:
        raise errors.SettingsError(
            file=f"stacks/{file.name}",
            key="",
            seen="there is no such file",
            allowed=f"a stack: {', '.join(stacks)}",
            nearest=errors.nearest(name, stacks),
        )
    return read_as(file, file)


def read_as(content: Path, file: Path) -> settings.Settings:
    """Return the settings that the stack file `file` would have with the content of another file. Raises SettingsError."""
    label = f"stacks/{file.name}"
    raw, inventories = inventory.expand(_project_keys(content, label), file.parent, label)
    return settings.read(raw, label, inventories)


def machine_files(name: str, root: Path) -> list[str]:
    """Return the files of machines that a stack names, relative to stacks/. A backup includes them."""
    folder = root / "stacks"
    label = f"stacks/Pulumi.{name}.yaml"
    _, inventories = inventory.expand(_project_keys(root / label, label), folder, label)
    return [file.removeprefix("stacks/") for file in inventories.values()]


def _project_keys(file: Path, label: str) -> dict[str, Any]:
    """Return the keys of this project without their prefix, less the secrets. Raises SettingsError when the file has another form than FORM.

    `label` is the file's name in a message.
    """
    content = user_file.read(file, label, FORM)
    config = {} if content is None else content.get("config", {}) if isinstance(content, dict) else None
    if not isinstance(config, dict | None) or (config is None and not isinstance(content, dict)):
        key = "config" if isinstance(content, dict) else ""
        raise errors.SettingsError(file=label, key=key, seen="is not a mapping", allowed=FORM)
    keys = {
        str(key).removeprefix(PREFIX): value for key, value in (config or {}).items() if str(key).startswith(PREFIX)
    }
    return {key: value for key, value in keys.items() if key not in settings.SECRETS}


FORM = "YAML with `config`, and below it keys as glm-fleet:nodes"
