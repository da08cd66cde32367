"""A stack file as it lies on the disk, for those who ask about a plan without Pulumi: no backend, no passphrase is needed.

Secrets stay encrypted and are left out. Called by `fleet plan`; what Pulumi runs is read by `stack`.
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
    told = yaml.safe_load(file.read_text()) or {}
    raw, inventories = inventory.expand(_own(told.get("config") or {}), file.parent, f"stacks/{file.name}")
    return settings.read(raw, f"stacks/{file.name}", inventories)


def _own(config: dict[str, Any]) -> dict[str, Any]:
    keys = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    return {key: value for key, value in keys.items() if key not in settings.SECRETS}
