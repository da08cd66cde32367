"""A stack file as it lies on the disk, for those who ask about a plan without Pulumi: no backend, no passphrase is needed.

Secrets stay encrypted and are left out. Called by `fleet plan` and bootstrap/archive.sh; what Pulumi runs is read by `stack`.
"""

from pathlib import Path
from typing import Any

import yaml

from fleet import errors
from fleet.plan import inventory, settings

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
    config = (yaml.safe_load(file.read_text()) or {}).get("config") or {}
    keys = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    return {key: value for key, value in keys.items() if key not in settings.SECRETS}
