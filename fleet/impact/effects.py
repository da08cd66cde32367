"""What a run does to a running host, in words: for what changed, and for what a refresh found changed by hand.

Pure: reads the roles' own statements (statements.py), opens no connection. Called by the provider at preview;
`forecast` puts the effects on many hosts into a few lines.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fleet.drift import Difference
from fleet.impact import role_effects, value_diff
from fleet.impact.role_effects import LEVELS, NONE, Level, Statement, statement
from fleet.stack import role_digest

# What a role that restarts the replicas of its host says instead of their names, and the variable that has these.
REPLICAS, NAMED = "{replicas}", "vllm_replicas"


@dataclass(frozen=True)
class Effect:
    """One effect on one host: its level, `what` it hits (units; empty for the host), and the reasons.

    The level is one of LEVELS, or `repair`: puts something right, and nothing restarts for it; `await`: for what another run restarts;
    `start` and `stop`: of a replica that is not there before, or not afterwards; `reinstall`: of the machine itself; `recreate`: of all that
    stood on it before. An effect that is not `sure` is the worst that can
    come: what it depends on shows only during the run.
    """

    level: str
    what: tuple[str, ...]
    because: tuple[str, ...]
    sure: bool = True


@dataclass(frozen=True)
class Found:
    """One reason for an effect."""

    level: Level
    what: tuple[str, ...]
    because: str


def predict(
    olds: Sequence[Mapping[str, Any]], new: Mapping[str, Any], drift: Sequence[Difference], roles: Path
) -> list[Effect]:
    """Return the effects of one run of an Ansible resource, the strongest first.

    It goes from the inputs `olds` (after a failed update there are two that still matter) to `new`, and mends `drift`. An old one that
    is a whole state also says which packages are there.
    """
    found = [one for old in olds for one in _of_change(old, new, _packages(olds), roles)]
    hit = _hits([*olds, new], roles)
    return _gathered([*found, *(_of_drift(one, new, hit, roles) for one in drift)])


def decides(olds: Sequence[Mapping[str, Any]], new: Mapping[str, Any], roles: Path) -> bool:
    """Return whether a run from the inputs `olds` to `new` gives the resource other results than it had."""
    for old in olds:
        for role, listing in (new.get("roles") or {}).items():
            told, own = statement(roles, role), new.get("vars") or {}
            defaults = [f"{role_digest.DEFAULT}{name}" for name in told.variables]
            files = role_digest.changed_paths((old.get("roles") or {}).get(role) or "", listing)
            names = [name.removeprefix(role_digest.DEFAULT) for name in files]
            counts = [one for one, name in zip(names, files, strict=True) if name not in defaults or one not in own]
            if any(told.decides(name) for name in (*_changed(old, new, told), *counts)):
                return True
    return False


def at_worst(olds: Sequence[Mapping[str, Any]], because: str, roles: Path, sure: bool = False) -> Effect:
    """Return the effect of a run of which no more is known than its roles: the worst that they state; `sure` when it must come."""
    told = {role: statement(roles, role) for old in olds for role in old.get("roles") or {}}
    level = role_effects.worst(level for one in told.values() for level in one.all_levels()).name
    hit = tuple(name for names in _hits(olds, roles).values() for name in names)
    return Effect(level, _what(level, hit), (because,), sure or level == "none")


def in_words(effect: Effect, node: str) -> str:
    """Return one line, such as `restarts glm-0 on prod-3: vllm_flags.max-model-len 65536 -> 32768`."""
    verb, whom = {
        "none": ("change", f"{node}, nothing restarts"),
        "repair": ("repair", f"{len(effect.because)} {'thing' if len(effect.because) == 1 else 'things'} on {node}"),
        "await": ("await", f"the replicas on {node}, and probes them again"),
        "reload": ("reload", f"{', '.join(effect.what)} on {node}"),
        "start": ("start", f"{', '.join(effect.what)} on {node}"),
        "stop": ("stop", f"{', '.join(effect.what)} on {node}"),
        "restart": ("restart", f"{', '.join(effect.what)} on {node}"),
        "reboot": ("reboot", node),
        "recreate": ("set", f"up {node} again"),
        "reinstall": ("reinstall", node),
    }[effect.level]
    return f"{f'{verb}s' if effect.sure else f'may {verb}'} {whom}: {'; '.join(effect.because)}"


def _of_change(
    old: Mapping[str, Any], new: Mapping[str, Any], packages: Mapping[str, Any], roles: Path
) -> Iterator[Found]:
    """Yield what follows from the difference of two inputs."""
    hits = _hits([old, new], roles)
    for role, listing in (new.get("roles") or {}).items():
        told = statement(roles, role)
        found = [
            *(one for name in _changed(old, new, told) for one in _of_variable(name, old, new, told, hits[role])),
            *(
                _hit(level, told, hits[role], _another(role, name))
                for name, level in _files(role, told, old, new, listing)
            ),
        ]
        yield from _reloaded(found, told, packages, hits[role])
    if "api_key" in new and old.get("api_key") != new["api_key"]:
        yield Found(Level("restart"), tuple(name for names in hits.values() for name in names), "the API key changed")
    if "engine" in new and old.get("engine") != new["engine"]:
        yield Found(Level("await"), (), "its Docker daemon restarts")
    if old.get("probes") != new.get("probes") and "probes" in new:
        yield Found(NONE, (), "the probes changed: they are asked again")


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], told: Statement) -> list[str]:
    """Return the variables of one role whose value differs, sorted."""
    return [name for name in sorted(told.variables) if _value(old, name, told) != _value(new, name, told)]


def _value(inputs: Mapping[str, Any], name: str, told: Statement) -> Any:
    """Return what a variable is worth: what the inputs say, else the role's default."""
    return (inputs.get("vars") or {}).get(name, told.defaults.get(name))


def _of_variable(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], told: Statement, hit: tuple[str, ...]
) -> Iterator[Found]:
    before, after = _value(old, name, told), _value(new, name, told)
    if name == NAMED:
        keep = any(_uses_ports(inputs, told) for inputs in (old, new))
        yield from _of_replicas(*(value_diff.by_name(_entries(replicas, keep)) for replicas in (before, after)))
        return
    differing = value_diff.entries(before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for entry in sorted(differing, key=lambda one: one.removeprefix("-")):
            key = entry if entry in after else entry.removeprefix("-")
            for because in value_diff.leaves(f"{name}.{key}", before.get(key), after.get(key)):
                yield _hit(told.of_variable(name, entry), told, hit, because)
    else:
        for because in value_diff.leaves(name, before, after):
            yield _hit(told.of_variable(name, *differing), told, hit, because)


def _uses_ports(inputs: Mapping[str, Any], told: Statement) -> bool:
    """Return whether the replicas listen on their ports; on sockets a port means nothing."""
    return bool(_value(inputs, "vllm_host_network", told)) or _value(inputs, "vllm_network", told) == "host"


def _entries(replicas: Any, ports: bool) -> list[Any]:
    """Return the replicas, without their ports unless these count."""
    return [
        {key: value for key, value in one.items() if ports or key != "port"} if isinstance(one, Mapping) else one
        for one in replicas or []
    ]


def _of_replicas(before: Any, after: Any) -> Iterator[Found]:
    """Yield what becomes of the replicas whose own entry differs; the others run on."""
    before, after = before or {}, after or {}
    differing = [name for name in {**after, **before} if before.get(name) != after.get(name)]
    level = {name: "start" if name not in before else "stop" if name not in after else "restart" for name in differing}
    for name in sorted(differing):
        hit = tuple(one for one in differing if level[one] == level[name])
        for because in value_diff.leaves(f"{NAMED}.{name}", before.get(name), after.get(name)):
            yield Found(Level(level[name]), hit, because)


def _files(
    role: str, told: Statement, old: Mapping[str, Any], new: Mapping[str, Any], listing: str
) -> Iterator[tuple[str, Level]]:
    """Yield the changed files of a role, and the variables that changed in those that define some, each with its level."""
    for name in role_digest.changed_paths((old.get("roles") or {}).get(role) or "", listing):
        variable = name.removeprefix(role_digest.DEFAULT)
        if variable == name or variable not in told.variables:
            yield name, told.of_file(name)
        elif variable not in (new.get("vars") or {}):
            yield name, told.of_any(variable)
        elif variable not in (old.get("vars") or {}):  # what it was worth before is not known any more
            yield name, replace(told.of_any(variable), sure=False)
        else:
            yield name, NONE


def _hit(level: Level, told: Statement, hit: tuple[str, ...], because: str) -> Found:
    return Found(level, (told.reloads,) if level.name == "reload" else _what(level.name, hit), because)


def _another(role: str, name: str) -> str:
    file, _, variable = name.partition(": ")
    return f"roles/{role}/{file} changed{f': {variable}' if variable else ''}"


def _reloaded(
    found: Sequence[Found], told: Statement, packages: Mapping[str, Any], hit: tuple[str, ...]
) -> Iterator[Found]:
    """Yield what is found of one role: nothing reloads where it restarts anyway, or must restart instead."""
    can = _can_reload(told, packages)
    restarts = any(one.level == Level("restart") for one in found)
    for one in found:
        if one.level.name != "reload" or (can and not restarts):
            yield one
        else:
            yield Found(Level("restart", sure=restarts or can is not None), hit, one.because)


def _can_reload(told: Statement, packages: Mapping[str, Any]) -> bool | None:
    """Return whether what the role reloads can be; None of a machine whose packages nobody has read."""
    known = [
        _major(str(seen.get("version") or "")) >= since
        for name, since in told.reloads_since.items()
        if (seen := packages.get(f"package {name}"))
    ]
    return any(known) if known else None


def _packages(olds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what the newest state knows of the host, by name of the thing."""
    known = [(old.get("managed") or {}).get("expected") or {} for old in olds]
    return known[-1] if known else {}


def _major(version: str) -> int:
    """Return the first number of a version, past an epoch: 5:23.0.1-1 is 23."""
    seen = re.match(r"(?:\d+:)?(\d+)", version)
    return int(seen[1]) if seen else 0


def _of_drift(one: Difference, inputs: Mapping[str, Any], hits: Mapping[str, tuple[str, ...]], roles: Path) -> Found:
    """Return what it costs to repair one difference: the first rule of the resource's roles decides, without one nothing restarts."""
    own = (_stem(one.name),)
    for role in inputs.get("roles") or {}:
        told = statement(roles, role)
        level = told.of_drift(one)
        if level and level != NONE:
            return _hit(level, told, own if own[0] in hits[role] else hits[role], str(one))
        if level:
            break
    return Found(Level("repair"), own, str(one))


def _gathered(found: Sequence[Found]) -> list[Effect]:
    """Return one effect for each level and what it hits, with all its reasons; the strongest first.

    What hits only a part of what restarts anyway, and what is mended of it (whether it starts at boot), is told there;
    so is a replica that comes or goes beside it.
    """
    restarts = sorted({one.what for one in found if one.level == Level("restart")}, key=len, reverse=True)
    starts = any(one.level.name in ("restart", "start") for one in found)
    reasons: dict[tuple[Level, tuple[str, ...]], list[str]] = {}
    for one in found:
        level, what = one.level, one.what
        if level.name == "await" and starts:
            continue  # a run that starts replicas awaits and probes them anyway
        if level.name in ("restart", "start", "stop", "repair"):
            wide = next((names for names in restarts if {*what} <= {*names}), None)
            if wide is not None:
                level, what = Level("restart"), wide
            elif level.name == "repair":
                what = ()
        told = reasons.setdefault((level, what), [])
        if one.because not in told:
            told.append(one.because)
    effects = [Effect(level.name, what, tuple(told), level.sure) for (level, what), told in reasons.items()]
    return sorted(effects, key=lambda effect: (-_rank(effect.level), not effect.sure))


def _rank(level: str) -> float:
    return {"repair": 0.25, "await": 0.5, "start": 1.5, "stop": 1.75}.get(level) or LEVELS.index(level)


def _stem(name: str) -> str:
    """Return the name that a replica's unit, its file and its container share."""
    return PurePosixPath(name).name.removesuffix(".service")


def _what(level: str, hit: tuple[str, ...]) -> tuple[str, ...]:
    return hit if level in ("reload", "restart") else ()


def _hits(inputs: Sequence[Mapping[str, Any]], roles: Path) -> dict[str, tuple[str, ...]]:
    """Return what each role restarts, by role: the replicas of all these inputs (the newest first), or what it says."""
    newest = inputs[::-1]
    told = {role: statement(roles, role) for side in newest for role in side.get("roles") or {}}
    return {
        role: _names(newest, one) if one.restarts == REPLICAS else _some(one.restarts) for role, one in told.items()
    }


def _names(inputs: Sequence[Mapping[str, Any]], told: Statement) -> tuple[str, ...]:
    names = [one["name"] for side in inputs for one in _value(side, NAMED, told) or ()]
    return tuple(dict.fromkeys(names))


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()
