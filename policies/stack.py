"""What the pack knows about the stack: its name, its source, its gateways, its waivers, its released machines.

The Pulumi engine starts the pack with the stack's configuration. Only the stack file shows which secrets are in clear.
A malformed value counts as not set here; the program reports it (fleet/stack/settings.py). Used by __main__ and rules.
"""

import contextlib
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fleet.findings import Waiver
from fleet.stack.cluster_names import LAB

STACKS = Path(__file__).resolve().parents[1] / "stacks"
PREFIX = "glm-fleet:"
PRODUCTION = ("prod", "production", "dr")
SECRETS = ("vllm_api_key", "weights_token", "gateway_key", "redfish_username", "redfish_password")


@dataclass(frozen=True)
class Stack:
    """A stack: `source` of glm-fleet:nodes, or `cluster`, the context of glm-fleet:kubernetes; `clear`, secrets in clear in the stack file.

    `gateways` are the machines of glm-fleet:gateway.
    """

    name: str = ""
    source: str = ""
    cluster: str = ""
    gateways: tuple[str, ...] = ()
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    release: Mapping[str, str] = field(default_factory=dict)
    purge: tuple[str, ...] = ()
    clear: frozenset[str] = frozenset()

    @property
    def lab(self) -> bool:
        """Whether its nodes are lab containers, or those of its cluster, which need no protection."""
        return self.source == "lab" or self.cluster == LAB

    @property
    def production(self) -> bool:
        """Whether clients depend on it, by its name: prod, prod-eu, dr."""
        return self.name.partition("-")[0] in PRODUCTION


def read(config: Mapping[str, str], file: str = "", name: str = "") -> Stack:
    """Return the stack `name` of a configuration (values as text, objects as JSON) and of the stack file's text."""
    keys = ("nodes", "kubernetes", "waivers", "release", "gateway")
    nodes, cluster, waivers, release, gateway = (_object(config.get(PREFIX + key, "")) for key in keys)
    machines = gateway.get("nodes")
    return Stack(
        name=name,
        source=str(nodes.get("source", "")),
        cluster=str(cluster.get("context", "")),
        gateways=tuple(map(str, machines)) if isinstance(machines, list) else (),
        waivers={name: waiver for name, entry in waivers.items() if (waiver := _waiver(entry))},
        release={name: str(why) for name, why in release.items()},
        purge=tuple(name for name in ("weights", "driver") if f'"{name}"' in config.get(f"{PREFIX}purge", "")),
        clear=_clear(file),
    )


def file_of(name: str) -> str:
    """Return the text of a stack file, or "" when there is none."""
    file = STACKS / f"Pulumi.{name}.yaml"
    return file.read_text() if file.is_file() else ""


def _waiver(entry: Any) -> Waiver | None:
    if not isinstance(entry, Mapping) or not str(entry.get("reason", "")).strip():
        return None
    with contextlib.suppress(ValueError):  # a date that YAML recognises arrives with a time of day
        return Waiver(str(entry["reason"]), datetime.date.fromisoformat(str(entry.get("expires"))[:10]))
    return None


def _clear(file: str) -> frozenset[str]:
    # The C loader is six times faster.
    config = (yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}).get("config") or {}
    values = {name: config[PREFIX + name] for name in SECRETS if PREFIX + name in config}
    return frozenset(name for name, value in values.items() if not (isinstance(value, Mapping) and "secure" in value))


def _object(text: str) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, Mapping) else {}
    return {}
