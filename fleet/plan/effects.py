"""What a run does to a running host, in words: for what changed, and for what a refresh found changed by hand.

Pure: reads the roles' own statements (roles/ROLE/meta/effects.yml), opens no connection. Called by the provider at preview;
`forecast` puts the effects on many hosts into a few lines.
"""

import fnmatch
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fleet.plan import rolefiles

# What a role may state, the weakest first.
LEVELS = ("none", "reload", "restart", "reboot")
# A value longer than this says less than its name.
WIDTH = 48

Found = tuple[str, tuple[str, ...], str]  # level, what it hits, one reason


@dataclass(frozen=True)
class Effect:
    """One effect on one host: its level, `what` it hits (units; empty for the host), and the reasons.

    The level is one of LEVELS, or `mends`: puts something right, and nothing restarts for it; or `waits`: for what another run
    restarts. An effect that is not `sure` is the worst that can come: what it depends on shows only during the run.
    """

    level: str
    what: tuple[str, ...]
    because: tuple[str, ...]
    sure: bool = True


@dataclass(frozen=True)
class Statement:
    """What one role says about itself: a level by variable, by pattern of a file and of a drifted thing; what it restarts."""

    variables: Mapping[str, str]
    files: Mapping[str, str]
    drift: Mapping[str, str]
    restarts: str

    def of_file(self, name: str) -> str:
        """The level of a changed file: the first pattern's. What no pattern names is gone from the role: the worst is said of it."""
        return _first(self.files, name) or _worst(self.files.values())


@functools.cache
def statement(roles: Path, role: str) -> Statement:
    """Read one role's statement; a role without one is said to have no effect."""
    import yaml  # a fifth of a plugin's start, which a run that changes nothing need not pay

    file = roles / role / "meta" / "effects.yml"
    told = yaml.safe_load(file.read_text()) if file.exists() else {}
    variables, files, drift = (told.get(part) or {} for part in ("variables", "files", "drift"))
    return Statement(variables, files, drift, told.get("restarts") or "")


def predict(
    olds: Sequence[Mapping[str, Any]], new: Mapping[str, Any], drift: Sequence[Mapping[str, str]], roles: Path
) -> list[Effect]:
    """Return the effects of one run of an Ansible resource, the strongest first.

    It goes from the inputs `olds` (after a failed update there are two that still matter) to `new`, and mends `drift`.
    """
    found = [one for old in olds for one in _of_change(old, new, roles)]
    hit = _hits([*olds, new], roles)
    return _gathered([*found, *(_of_drift(one, new, hit, roles) for one in drift)])


def at_worst(olds: Sequence[Mapping[str, Any]], because: str, roles: Path) -> Effect:
    """Return the effect of a run of which no more is known than its roles: the worst that they state."""
    told = {role: statement(roles, role) for old in olds for role in old.get("roles") or {}}
    level = _worst(level for one in told.values() for level in (*one.variables.values(), *one.files.values()))
    hit = tuple(name for names in _hits(olds, roles).values() for name in names)
    return Effect(level, _what(level, hit), (because,), sure=level == "none")


def in_words(effect: Effect, node: str) -> str:
    """Return one line, such as `restarts glm-0 on prod-3: vllm_flags.max-model-len 65536 -> 32768`."""
    verb, whom = {
        "none": ("change", f"{node}, nothing restarts"),
        "mends": ("mend", f"{len(effect.because)} {'thing' if len(effect.because) == 1 else 'things'} on {node}"),
        "waits": ("await", f"the replicas on {node}, and probes them again"),
        "reload": ("reload", f"{', '.join(effect.what)} on {node}"),
        "restart": ("restart", f"{', '.join(effect.what)} on {node}"),
        "reboot": ("reboot", node),
    }[effect.level]
    return f"{f'{verb}s' if effect.sure else f'may {verb}'} {whom}: {'; '.join(effect.because)}"


def drifted(one: Mapping[str, str]) -> str:
    """Return one thing that a refresh found changed in words: `file /etc/x (mode 0600, wanted mode 0644)`."""
    return f"{one['what']} ({one['seen']}, wanted {one['expected']})"


def _of_change(old: Mapping[str, Any], new: Mapping[str, Any], roles: Path) -> Iterator[Found]:
    """Yield what follows from the difference of two inputs."""
    old_vars, new_vars = old.get("vars") or {}, new.get("vars") or {}
    changed = [name for name in sorted({*old_vars, *new_vars}) if old_vars.get(name) != new_vars.get(name)]
    hits = _hits([old, new], roles)
    for role, listing in (new.get("roles") or {}).items():
        told = statement(roles, role)
        for name in changed:
            if name in told.variables:
                level, hit = told.variables[name], _hit_by(name, old_vars, new_vars, hits[role])
                for because in _leaves(name, old_vars.get(name), new_vars.get(name)):
                    yield level, _what(level, hit), because
        for name in rolefiles.changed((old.get("roles") or {}).get(role) or "", listing):
            level = told.of_file(name)
            yield level, _what(level, hits[role]), f"roles/{role}/{name} changed"
    if "api_key" in new and old.get("api_key") != new["api_key"]:
        yield "restart", tuple(name for names in hits.values() for name in names), "the API key changed"
    if "engine" in new and old.get("engine") != new["engine"]:
        yield "waits", (), "its engine starts anew"
    if old.get("probes") != new.get("probes") and "probes" in new:
        yield "none", (), "the probes changed: they are asked again"


def _of_drift(
    one: Mapping[str, str], inputs: Mapping[str, Any], hits: Mapping[str, tuple[str, ...]], roles: Path
) -> Found:
    """Return what it costs to put one thing right: the first pattern of the resource's roles says it, without one nothing does."""
    because = drifted(one)
    for role in inputs.get("roles") or {}:
        # A pattern names the thing alone, or goes on with how it differs.
        level = _first(statement(roles, role).drift, one["what"], because)
        if level and level != "none":
            own = (_stem(one["what"]),)
            return level, _what(level, own if own[0] in hits[role] else hits[role]), because
        if level:
            break
    return "mends", (_stem(one["what"]),), because


def _gathered(found: Sequence[Found]) -> list[Effect]:
    """Return one effect for each level and what it hits, with all its reasons; the strongest first.

    What hits only a part of what restarts anyway, and what is mended of it (whether it starts at boot), is told there.
    """
    restarts = sorted({what for level, what, _ in found if level == "restart"}, key=len, reverse=True)
    reasons: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for level, what, because in found:
        if level == "waits" and restarts:
            continue  # a run that restarts replicas awaits and probes them anyway
        if level in ("restart", "mends"):
            wide = next((names for names in restarts if {*what} <= {*names}), None)
            level, what = ("restart", wide) if wide is not None else (level, ())
        told = reasons.setdefault((level, what), [])
        if because not in told:
            told.append(because)
    effects = [Effect(level, what, tuple(told)) for (level, what), told in reasons.items()]
    return sorted(effects, key=lambda effect: -_rank(effect.level))


def _rank(level: str) -> float:
    return {"mends": 0.25, "waits": 0.5}.get(level) or LEVELS.index(level)


def _worst(levels: Iterable[str]) -> str:
    return max(levels, key=LEVELS.index, default="none")


def _first(patterns: Mapping[str, str], *names: str) -> str:
    """Return the level of the first pattern that matches one of the names, or ""."""
    matches = (
        level for pattern, level in patterns.items() if any(fnmatch.fnmatchcase(name, pattern) for name in names)
    )
    return next(matches, "")


def _stem(what: str) -> str:
    """Return the name that a replica's unit, its file and its container share."""
    return PurePosixPath(what.split(" ", 1)[-1]).name.removesuffix(".service")


def _what(level: str, hit: tuple[str, ...]) -> tuple[str, ...]:
    return hit if level in ("reload", "restart") else ()


def _hits(inputs: Sequence[Mapping[str, Any]], roles: Path) -> dict[str, tuple[str, ...]]:
    """Return what each role restarts, by role: the replicas of all these inputs (the newest first), or what it says.

    A stack that does not set vllm_replicas has the role's own, whose names are not among the inputs.
    """
    newest = inputs[::-1]
    names = [one["name"] for side in newest for one in (side.get("vars") or {}).get("vllm_replicas") or ()]
    told = {role: statement(roles, role).restarts for side in newest for role in side.get("roles") or {}}
    said = {"{replicas}": tuple(dict.fromkeys(names)) or ("every replica",), "": ()}
    return {role: said.get(restarts, (restarts,)) for role, restarts in told.items()}


def _hit_by(name: str, old: Mapping[str, Any], new: Mapping[str, Any], hit: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a changed variable hits: of the list of replicas those whose own entry differs, else all that its role restarts."""
    if name != "vllm_replicas":
        return hit
    before, after = _by_name(old.get(name)), _by_name(new.get(name))
    return tuple(one for one in hit if not (before and after) or before.get(one) != after.get(one))


def _by_name(value: Any) -> Any:
    """Return a list of things with names as {name: thing}, anything else as it is."""
    named = isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value)
    return {one["name"]: one for one in value} if named else value


def _leaves(path: str, old: Any, new: Any) -> Iterator[str]:
    """Yield each changed leaf as `path old -> new`."""
    old, new = _by_name(old), _by_name(new)
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
