"""What the pack knows of the stack that is judged: where its machines come from, its waivers, its released machines.

Read from the configuration that the engine hands over. A wrong form is told by the program itself (fleet/plan/settings.py);
here it counts as not said. Needs nothing. Used by pack and rules.
"""

import contextlib
import datetime
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Waiver:
    """Why a rule does not stop this stack, and the last day on which that holds."""

    reason: str
    expires: datetime.date


@dataclass(frozen=True)
class Stack:
    """`source` is that of glm-fleet:nodes, `clear` the names of secrets that stand in clear in the stack file."""

    source: str = ""
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    release: Mapping[str, str] = field(default_factory=dict)
    clear: frozenset[str] = frozenset()

    @property
    def lab(self) -> bool:
        """Whether its machines stand in for others: nothing on them is worth protecting."""
        return self.source == "lab"


SECRETS = ("vllm_api_key", "weights_token")


def read(project: str, config: Mapping[str, str], secret: Collection[str]) -> Stack:
    """Return what the configuration says. Its values are text, objects as JSON; `secret` has the keys of those that are secrets."""
    nodes, waivers, release = (_object(config.get(f"{project}:{key}", "")) for key in ("nodes", "waivers", "release"))
    clear = {name for name in SECRETS if f"{project}:{name}" in config and f"{project}:{name}" not in secret}
    return Stack(
        source=str(nodes.get("source", "")),
        waivers={name: waiver for name, told in waivers.items() if (waiver := _waiver(told))},
        release={name: str(why) for name, why in release.items()},
        clear=frozenset(clear),
    )


def _waiver(told: Any) -> Waiver | None:
    if not isinstance(told, Mapping) or not str(told.get("reason", "")).strip():
        return None
    with contextlib.suppress(ValueError):  # a date that YAML recognises arrives with a time of day
        return Waiver(str(told["reason"]), datetime.date.fromisoformat(str(told.get("expires"))[:10]))
    return None


def _object(text: str) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, Mapping) else {}
    return {}
