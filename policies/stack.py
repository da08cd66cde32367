"""What the pack knows of the stack that is judged: where its machines come from, its waivers, its released machines.

Read from the configuration with which the engine starts the pack; what of it is secret stands in the stack file only.
A wrong form is told by the program itself (fleet/stack/settings.py); here it counts as not said. Used by __main__ and rules.
"""

import contextlib
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

STACKS = Path(__file__).resolve().parents[1] / "stacks"
PREFIX = "glm-fleet:"
SECRETS = ("vllm_api_key", "weights_token", "redfish_username", "redfish_password")


@dataclass(frozen=True)
class Waiver:
    """Why a rule does not stop this stack, and the last day on which that holds."""

    reason: str
    expires: datetime.date

    def in_force(self, today: datetime.date) -> bool:
        """Whether it counts: up to and on its last day."""
        return self.expires >= today

    def __str__(self) -> str:
        return f"waived until {self.expires}: {self.reason}"


@dataclass(frozen=True)
class Stack:
    """`source` is that of glm-fleet:nodes, `clear` the names of secrets that stand in clear in the stack file."""

    source: str = ""
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    release: Mapping[str, str] = field(default_factory=dict)
    purge: tuple[str, ...] = ()
    clear: frozenset[str] = frozenset()

    @property
    def lab(self) -> bool:
        """Whether its machines stand in for others: nothing on them is worth protecting."""
        return self.source == "lab"


def read(config: Mapping[str, str], file: str = "") -> Stack:
    """Return what the configuration says (its values are text, objects as JSON), and which secrets `file` has in clear."""
    nodes, waivers, release = (_object(config.get(PREFIX + key, "")) for key in ("nodes", "waivers", "release"))
    return Stack(
        source=str(nodes.get("source", "")),
        waivers={name: waiver for name, told in waivers.items() if (waiver := _waiver(told))},
        release={name: str(why) for name, why in release.items()},
        purge=tuple(name for name in ("weights", "driver") if f'"{name}"' in config.get(f"{PREFIX}purge", "")),
        clear=_clear(file),
    )


def file_of(name: str) -> str:
    """Return the text of a stack's file, or "" where there is none."""
    file = STACKS / f"Pulumi.{name}.yaml"
    return file.read_text() if file.is_file() else ""


def _waiver(told: Any) -> Waiver | None:
    if not isinstance(told, Mapping) or not str(told.get("reason", "")).strip():
        return None
    with contextlib.suppress(ValueError):  # a date that YAML recognises arrives with a time of day
        return Waiver(str(told["reason"]), datetime.date.fromisoformat(str(told.get("expires"))[:10]))
    return None


def _clear(file: str) -> frozenset[str]:
    # The C loader is six times faster.
    told = (yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}).get("config") or {}
    written = {name: told[PREFIX + name] for name in SECRETS if PREFIX + name in told}
    return frozenset(name for name, value in written.items() if not (isinstance(value, Mapping) and "secure" in value))


def _object(text: str) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, Mapping) else {}
    return {}
