"""Predicts what a run does to a running host, from its changed inputs and its drift, and puts it into words.

Needs the roles' effects.yml (role_effects.py); opens no connection. Called by fleet.provider in a preview.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fleet.drift import ROTATION, Difference
from fleet.impact import role_effects, value_diff
from fleet.impact.role_effects import LEVELS, NONE, Level, Statement, read_statement
from fleet.stack import role_digest

# `restarts` of a role that restarts all replicas of its host, and the variable that has their names.
REPLICAS, REPLICAS_VARIABLE = "{replicas}", "vllm_replicas"
# The same of a role that restarts or reloads the proxies of its host, and their units by face.
PROXIES_SIGN, PROXIES_VARIABLE = "{proxies}", "gateway_faces"
PROXIES = {"node": "fleet-proxy", "clients": "fleet-gateway"}


@dataclass(frozen=True)
class Effect:
    """One effect on one host: its level, the units that it affects (`what`; empty for the host), and the reasons.

    The level is one of LEVELS, or `repair`: reverts drift without a restart; `await`: waits for replicas that another run restarts;
    `start` and `stop`: of a new or a removed replica; `reinstall`: of the machine; `recreate`: of everything that was on a machine before
    its reinstallation; `upgrade`: of a member of a cluster. An effect that is not `sure` is the strongest possible: only the run can show
    which one it is. Of pods, `what` has their number and `manner` how they change: pod_effects.py; an upgrade's `manner` is about its pods.
    """

    level: str
    what: tuple[str, ...]
    because: tuple[str, ...]
    sure: bool = True
    manner: str = ""


@dataclass(frozen=True)
class Reason:
    """One reason for an effect, in words in `because`."""

    level: Level
    what: tuple[str, ...]
    because: str


def predict(
    olds: Sequence[Mapping[str, Any]],
    new: Mapping[str, Any],
    drift: Sequence[Difference],
    roles: Path,
    more: Iterable[Reason] = (),
) -> list[Effect]:
    """Return the effects of one run of an Ansible resource, the strongest first.

    The run changes the inputs `olds` (two after a failed update) to `new`, and reverts `drift`. `olds` may be states. `more` are reasons that
    no role states.
    """
    reasons = [reason for old in olds for reason in _of_change(old, new, _packages(olds), roles)]
    units = _units([*olds, new], roles)
    return _combine([*reasons, *(_of_drift(difference, new, units, roles) for difference in drift), *more])


def decides(olds: Sequence[Mapping[str, Any]], new: Mapping[str, Any], roles: Path) -> bool:
    """Return whether a run from the inputs `olds` to `new` changes the resource's outputs."""
    for old in olds:
        for role, listing in (new.get("roles") or {}).items():
            statement, variables = read_statement(roles, role), new.get("vars") or {}
            defaults = [f"{role_digest.DEFAULT}{name}" for name in statement.variables]
            files = role_digest.changed_paths((old.get("roles") or {}).get(role) or "", listing)
            pairs = [(file, file.removeprefix(role_digest.DEFAULT)) for file in files]
            counts = [name for file, name in pairs if file not in defaults or name not in variables]
            if any(statement.decides(name) for name in (*_changed(old, new, statement), *counts)):
                return True
    return False


def at_worst(olds: Sequence[Mapping[str, Any]], because: str, roles: Path, sure: bool = False) -> Effect:
    """Return the effect of a run with unknown changes: the strongest that its roles state; `sure` if it happens in any case."""
    statements = {role: read_statement(roles, role) for old in olds for role in old.get("roles") or {}}
    levels = (level for statement in statements.values() for level in statement.all_levels())
    strongest = role_effects.strongest(levels).name
    units = tuple(name for names in _units(olds, roles).values() for name in names)
    return Effect(strongest, _what(strongest, units), (because,), sure or strongest == "none")


def in_words(effect: Effect, node: str) -> str:
    """Return one line such as `restarts glm-0 on prod-3: vllm_flags.max-model-len 65536 -> 32768`."""
    because = f": {'; '.join(effect.because)}" if effect.because else ""
    if effect.manner:
        verb = effect.level if not effect.sure else f"{effect.level}s"
        return f"{'' if effect.sure else 'may '}{verb} {', '.join(effect.what)} of {node}, {effect.manner}{because}"
    verb, rest = {
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
    return f"{f'{verb}s' if effect.sure else f'may {verb}'} {rest}{because}"


def _of_change(
    old: Mapping[str, Any], new: Mapping[str, Any], packages: Mapping[str, Any], roles: Path
) -> Iterator[Reason]:
    """Yield the reasons in the difference of two inputs."""
    units = _units([old, new], roles)
    for role, listing in (new.get("roles") or {}).items():
        statement = read_statement(roles, role)
        changed = _changed(old, new, statement)
        reasons = [
            *(reason for name in changed for reason in _of_variable(name, old, new, statement, units[role])),
            *(
                _reason(level, statement, units[role], _file_changed(role, name))
                for name, level in _files(role, statement, old, new, listing)
            ),
        ]
        yield from _with_restarts(reasons, statement, packages, units[role])
    if "api_key" in new and old.get("api_key") != new["api_key"]:
        everything = tuple(name for names in units.values() for name in names)
        yield Reason(Level("restart"), everything, "the API key changed")
    if "engine" in new and old.get("engine") != new["engine"]:
        yield Reason(Level("await"), (), "its Docker daemon restarts")
    if old.get("probes") != new.get("probes") and "probes" in new:
        yield Reason(NONE, (), "the probes changed: they run again")


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], statement: Statement) -> list[str]:
    """Return the changed variables of one role, sorted."""
    names = sorted(statement.variables)
    return [name for name in names if _value(old, name, statement) != _value(new, name, statement)]


def _value(inputs: Mapping[str, Any], name: str, statement: Statement) -> Any:
    """Return the value of a variable in the inputs, or the role's default."""
    return (inputs.get("vars") or {}).get(name, statement.defaults.get(name))


def _of_variable(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], statement: Statement, units: tuple[str, ...]
) -> Iterator[Reason]:
    before, after = _value(old, name, statement), _value(new, name, statement)
    if name == REPLICAS_VARIABLE:
        ports = any(_uses_ports(inputs, statement) for inputs in (old, new))
        yield from _of_replicas(*(value_diff.by_name(_entries(replicas, ports)) for replicas in (before, after)))
        return
    changed = value_diff.entries(before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for entry in sorted(changed, key=lambda entry: entry.removeprefix("-")):
            key = entry if entry in after else entry.removeprefix("-")
            for because in value_diff.leaves(f"{name}.{key}", before.get(key), after.get(key)):
                yield _reason(statement.of_variable(name, entry), statement, units, because)
    else:
        for because in value_diff.leaves(name, before, after):
            yield _reason(statement.of_variable(name, *changed), statement, units, because)


def _uses_ports(inputs: Mapping[str, Any], statement: Statement) -> bool:
    """Return whether the replicas listen on their ports; otherwise they use sockets, and ports have no effect."""
    return bool(_value(inputs, "vllm_host_network", statement)) or _value(inputs, "vllm_network", statement) == "host"


def _entries(replicas: Any, ports: bool) -> list[Any]:
    """Return the replicas, with their ports only if `ports`."""
    return [
        {key: value for key, value in entry.items() if ports or key != "port"} if isinstance(entry, Mapping) else entry
        for entry in replicas or []
    ]


def _of_replicas(before: Any, after: Any) -> Iterator[Reason]:
    """Yield the reasons to start, stop or restart the replicas whose entry changed."""
    before, after = before or {}, after or {}
    changed = [name for name in {**after, **before} if before.get(name) != after.get(name)]
    level = {name: "start" if name not in before else "stop" if name not in after else "restart" for name in changed}
    for name in sorted(changed):
        units = tuple(other for other in changed if level[other] == level[name])
        for because in value_diff.leaves(f"{REPLICAS_VARIABLE}.{name}", before.get(name), after.get(name)):
            yield Reason(Level(level[name]), units, because)


def _files(
    role: str, statement: Statement, old: Mapping[str, Any], new: Mapping[str, Any], listing: str
) -> Iterator[tuple[str, Level]]:
    """Yield each changed file of a role, and each changed variable of its defaults and vars, with its level."""
    for name in role_digest.changed_paths((old.get("roles") or {}).get(role) or "", listing):
        variable = name.removeprefix(role_digest.DEFAULT)
        if variable == name or variable not in statement.variables:
            yield name, statement.of_file(name)
        elif variable not in (new.get("vars") or {}):
            yield name, statement.of_any(variable)
        elif variable not in (old.get("vars") or {}):  # its old default is unknown
            yield name, replace(statement.of_any(variable), sure=False)
        else:
            yield name, NONE


def _reason(level: Level, statement: Statement, units: tuple[str, ...], because: str) -> Reason:
    if level.unit:
        units = (level.unit,) if level.unit in units else ()
        level = Level(level.name, level.sure) if units else NONE
    if level.name == "reload" and statement.reloads != PROXIES_SIGN:
        return Reason(level, (statement.reloads,), because)
    return Reason(level, _what(level.name, units), because)


def _file_changed(role: str, name: str) -> str:
    file, _, variable = name.partition(": ")
    return f"roles/{role}/{file} changed{f': {variable}' if variable else ''}"


def _with_restarts(
    reasons: Sequence[Reason], statement: Statement, packages: Mapping[str, Any], units: tuple[str, ...]
) -> Iterator[Reason]:
    """Yield the reasons of one role, with restarts for reloads if something restarts anyway or nothing can reload."""
    can_reload = _can_reload(statement, packages)
    restarts = any(reason.level == Level("restart") for reason in reasons)
    for reason in reasons:
        if reason.level.name != "reload" or (can_reload and not restarts):
            yield reason
        else:
            yield Reason(Level("restart", sure=restarts or can_reload is not None), units, reason.because)


def _can_reload(statement: Statement, packages: Mapping[str, Any]) -> bool | None:
    """Return whether the role's unit can reload; None if that depends on the versions of its packages, and these are unknown."""
    if not statement.reloads_since:
        return True
    recent = [
        _major(str(package.get("version") or "")) >= since
        for name, since in statement.reloads_since.items()
        if (package := packages.get(f"package {name}"))
    ]
    return any(recent) if recent else None


def _packages(olds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the managed set's expected state in the newest of `olds`."""
    states = [(old.get("managed") or {}).get("expected") or {} for old in olds]
    return states[-1] if states else {}


def _major(version: str) -> int:
    """Return the first number of a version after an epoch: 23 for 5:23.0.1-1; 0 without a number."""
    match = re.match(r"(?:\d+:)?(\d+)", version)
    return int(match[1]) if match else 0


def _of_drift(
    difference: Difference, inputs: Mapping[str, Any], units: Mapping[str, tuple[str, ...]], roles: Path
) -> Reason:
    """Return the effect of repairing a difference, by the first matching rule of the roles; without one nothing restarts."""
    if difference.attribute == ROTATION:
        return Reason(NONE, (), str(difference))
    replica = (_stem(difference.name),)
    for role in inputs.get("roles") or {}:
        statement = read_statement(roles, role)
        level = statement.of_drift(difference)
        if level and level != NONE:
            affected = replica if replica[0] in units[role] else units[role]
            return _reason(level, statement, affected, str(difference))
        if level:
            break
    return Reason(Level("repair"), replica, str(difference))


def _combine(reasons: Sequence[Reason]) -> list[Effect]:
    """Return one effect for each level and group of units, with all its reasons; the strongest first.

    A restart of more units includes the restarts, reloads, starts, stops and repairs of some of them.
    """
    restarts = sorted({reason.what for reason in reasons if reason.level == Level("restart")}, key=len, reverse=True)
    starts = any(reason.level.name in ("restart", "start") for reason in reasons)
    groups: dict[tuple[Level, tuple[str, ...]], list[str]] = {}
    for reason in reasons:
        level, what = reason.level, reason.what
        if level.name == "await" and starts:
            continue  # a run that starts replicas always awaits and probes them
        if level.name in ("restart", "reload", "start", "stop", "repair"):
            wide = next((names for names in restarts if {*what} <= {*names}), None)
            if wide is not None:
                level, what = Level("restart"), wide
            elif level.name == "repair":
                what = ()
        texts = groups.setdefault((level, what), [])
        if reason.because not in texts:
            texts.append(reason.because)
    effects = [Effect(level.name, what, tuple(texts), level.sure) for (level, what), texts in groups.items()]
    return sorted(effects, key=lambda effect: (-_rank(effect.level), not effect.sure))


def _rank(level: str) -> float:
    return {"repair": 0.25, "await": 0.5, "start": 1.5, "stop": 1.75}.get(level) or LEVELS.index(level)


def _stem(name: str) -> str:
    """Return the replica's name in the name of its unit, file or container."""
    return PurePosixPath(name).name.removesuffix(".service")


def _what(level: str, units: tuple[str, ...]) -> tuple[str, ...]:
    return units if level in ("reload", "restart") else ()


def _units(inputs: Sequence[Mapping[str, Any]], roles: Path) -> dict[str, tuple[str, ...]]:
    """Return the units that each role restarts: the unit that it states, or the replicas or proxies of all inputs, the newest first."""
    newest_first = inputs[::-1]
    statements = {role: read_statement(roles, role) for side in newest_first for role in side.get("roles") or {}}
    return {role: _role_units(newest_first, statement) for role, statement in statements.items()}


def _role_units(inputs: Sequence[Mapping[str, Any]], statement: Statement) -> tuple[str, ...]:
    if statement.restarts == PROXIES_SIGN:
        faces = [face for side in inputs for face in _value(side, PROXIES_VARIABLE, statement) or ()]
        return tuple(dict.fromkeys(PROXIES[face] for face in faces))
    if statement.restarts != REPLICAS:
        return (statement.restarts,) if statement.restarts else ()
    names = [replica["name"] for side in inputs for replica in _value(side, REPLICAS_VARIABLE, statement) or ()]
    return tuple(dict.fromkeys(names))
