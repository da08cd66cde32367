"""A stack file as it lies on the disk, for those who ask about a plan without Pulumi: no backend, no passphrase is needed.

Secrets stay encrypted and are left out. Called by `fleet plan` and bootstrap/archive.sh; what Pulumi runs is read by `stack`.
"""

from pathlib import Path
from typing import Any

from fleet import errors
from fleet.stack import inventory, settings, user_file

PROJECT = "glm-fleet"
PREFIX = f"{PROJECT}:"


def read(name: str, root: Path) -> settings.Settings:
    """Return the settings of a stack; SettingsError where there is no such file, or what stands in it is wrong."""
    file = root / "stacks" / f"Pulumi.{name}.yaml"
    known = sorted(path.name.split(".")[1] for path in file.parent.glob("Pulumi.*.yaml"))
    if name not in known:
        raise errors.SettingsError(
            file=f"stacks/{file.name}",
            key="",
            seen="there is no such file",
            allowed=f"a stack: {', '.join(known)}",
            nearest=settings.nearest(name, known),
        )
    raw, inventories = inventory.expand(_own(file), file.parent, f"stacks/{file.name}")
    return settings.read(raw, f"stacks/{file.name}", inventories)


def named(name: str, root: Path) -> list[str]:
    """Return the files of machines that a stack names, below its folder; for a backup, which has them beside the stack file."""
    folder = root / "stacks"
    _, inventories = inventory.expand(_own(folder / f"Pulumi.{name}.yaml"), folder, f"stacks/Pulumi.{name}.yaml")
    return [file.removeprefix("stacks/") for file in inventories.values()]


def _own(file: Path) -> dict[str, Any]:
    """Return the stack's own keys, less the secrets. SettingsError where the file is no YAML, or not of a stack file's form."""
    shown = f"stacks/{file.name}"
    told = user_file.read(file, shown, FORM)
    config = {} if told is None else told.get("config", {}) if isinstance(told, dict) else None
    if not isinstance(config, dict | None) or (config is None and not isinstance(told, dict)):
        key = "config" if isinstance(told, dict) else ""
        raise errors.SettingsError(file=shown, key=key, seen="is no mapping", allowed=FORM)
    keys = {
        str(key).removeprefix(PREFIX): value for key, value in (config or {}).items() if str(key).startswith(PREFIX)
    }
    return {key: value for key, value in keys.items() if key not in settings.SECRETS}


FORM = "YAML with `config`, and below it keys as glm-fleet:nodes"
