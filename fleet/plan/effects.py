"""What a change of a resource does to a running host, in words: none, reload, restart, reboot.

Pure: reads the roles' own statements (roles/ROLE/meta/effects.yml), opens no connection. Called by the provider at preview.
"""

import fnmatch
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet.plan import rolefiles

LEVELS = ("none", "reload", "restart", "reboot")
# A value longer than this says less than its name.
WIDTH = 48


@dataclass(frozen=True)
class Effect:
    """One effect on one host: its `level` of LEVELS, `what` it hits (units; empty for the host), and the reasons."""

    level: str
    what: tuple[str, ...]
    because: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """What one role says about itself: a level by variable, a level by file pattern (first match), what is restarted."""

    variables: Mapping[str, str]
    files: Mapping[str, str]
    restarts: str

    def of_file(self, name: str) -> str:
        """The level of a changed file."""
        return next((level for pattern, level in self.files.items() if fnmatch.fnmatch(name, pattern)), "none")


@functools.cache
def statement(roles: Path, role: str) -> Statement:
    """Read one role's statement; a role without one is said to have no effect."""
    file = roles / role / "meta" / "effects.yml"
    told = yaml.safe_load(file.read_text()) if file.exists() else {}
    return Statement(told.get("variables") or {}, told.get("files") or {}, told.get("restarts") or "")


def predict(old: Mapping[str, Any], new: Mapping[str, Any], roles: Path) -> list[Effect]:
    """Return the effects of going from the old inputs of an Ansible resource to the new ones, the strongest first."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for level, what, because in _effects(old, new, roles):
        reasons = found.setdefault((level, what), [])
        if because not in reasons:
            reasons.append(because)
    effects = [Effect(level, what, tuple(reasons)) for (level, what), reasons in found.items()]
    return sorted(effects, key=lambda effect: -LEVELS.index(effect.level))


def in_words(effect: Effect, node: str) -> str:
    """Return one line, such as `restarts glm-0 on prod-3: vllm_flags.max-model-len 65536 -> 32768`."""
    what = ", ".join(effect.what)
    does = {
        "none": f"changes {node}, nothing restarts",
        "reload": f"reloads {what} on {node}",
        "restart": f"restarts {what} on {node}",
        "reboot": f"reboots {node}",
    }[effect.level]
    return f"{does}: {'; '.join(effect.because)}"


def mends(drift: Sequence[Mapping[str, str]], node: str) -> str:
    """Return one line for what a refresh found changed by hand."""
    things = "; ".join(f"{one['what']} ({one['seen']}, wanted {one['expected']})" for one in drift)
    return f"mends {len(drift)} {'thing' if len(drift) == 1 else 'things'} on {node}: {things}"


def _effects(old: Mapping[str, Any], new: Mapping[str, Any], roles: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    old_vars, new_vars = old.get("vars") or {}, new.get("vars") or {}
    changed = [name for name in sorted({*old_vars, *new_vars}) if old_vars.get(name) != new_vars.get(name)]
    for role, listing in (new.get("roles") or {}).items():
        told = statement(roles, role)
        hit = _hit(told.restarts, old_vars, new_vars)
        for name in changed:
            if name in told.variables:
                for because in _leaves(name, old_vars.get(name), new_vars.get(name)):
                    yield told.variables[name], _what(told.variables[name], hit), because
        for name in rolefiles.changed((old.get("roles") or {}).get(role) or "", listing):
            level = told.of_file(name)
            yield level, _what(level, hit), f"roles/{role}/{name} changed"
        if "api_key" in new and old.get("api_key") != new["api_key"]:
            yield "restart", hit, "the API key changed"
    if old.get("probes") != new.get("probes") and "probes" in new:
        yield "none", (), "the probes changed: they are asked again"


def _what(level: str, hit: tuple[str, ...]) -> tuple[str, ...]:
    return hit if level in ("reload", "restart") else ()


def _hit(restarts: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    if restarts != "{replicas}":
        return (restarts,) if restarts else ()
    names = [replica["name"] for side in (new, old) for replica in side.get("vllm_replicas") or ()]
    return tuple(dict.fromkeys(names))


def _leaves(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield each changed leaf as `path old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield from _leaves(f"{path}.{key}", old.get(key), new.get(key))
    else:
        yield f"{path} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
