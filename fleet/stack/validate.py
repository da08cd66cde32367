"""What the plan says of itself: every mistake and every warning in a stack's variables, less what the stack has waived.

Brings together what `rolevars` knows of names and types and what `rules` know of model and hardware. Pure: settings in,
`Told` out. Called by `fleet.program.config` before any resource is declared, and by `fleet plan`.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import SettingsError
from fleet.sources.pool import Pool
from fleet.stack import mirrors, role_vars, rules, settings

WAIVE = "docs/rules.md says why ({rule})"


@dataclass
class Told:
    """What was found, in the order of the stack file: `mistakes` stop, `warnings` are shown and do not.

    `mistyped`: values of other types than the roles want, by which no rule can judge.
    """

    mistyped: bool = False
    mistakes: list[SettingsError] = field(default_factory=list)
    warnings: list[SettingsError] = field(default_factory=list)


def judge(judged: settings.Settings, roles: role_vars.Roles, file: str, today: datetime.date) -> Told:
    """Return what roles and rules say about the stack's variables, for the stack and for each machine."""
    told = Told()
    told.mistakes += roles.judge(judged.vars, file, "vars")
    for name, machine in judged.machines.items():
        told.mistakes += map(judged.located, roles.judge(machine.vars, file, f"{judged.key(name)}.vars"))
    if told.mistakes:
        told.mistyped = True
        return told
    seen: set[str] = set()
    for name in judged.machines:
        planned = plan(judged, roles, name)
        for rule in _asked(judged.pool(name)):
            waiver = judged.waivers.get(rule.name)
            for finding in rule.judge(planned):
                where = _place(finding, judged, name)
                error = judged.located(_error(rule, finding, where, file, waiver, today))
                if str(error) not in seen:  # what 100 machines share is told once
                    seen.add(str(error))
                    stops = rule.level == "error" and not (waiver and waiver.expires >= today)
                    (told.mistakes if stops else told.warnings).append(error)
    return told


def plan(judged: settings.Settings, roles: role_vars.Roles, machine: str) -> rules.Planned:
    """Return one machine as rules see it: with the roles' defaults where the stack says nothing."""
    own = roles.coerced(variables(judged, roles, machine))
    disk = judged.pool(machine).disk(machine)
    return rules.Planned({**roles.defaults, **own}, judged.gpus(machine), rules.Disk(*disk) if disk else None)


def variables(judged: settings.Settings, roles: role_vars.Roles, machine: str) -> dict[str, Any]:
    """Return the role variables of one machine: what its form tells, under the stack's, under its own; all through the mirrors.

    A draining machine serves nothing.
    """
    derived = {"rocm_gpus": judged.gpus(machine)}
    own = judged.machines[machine]
    told = role_vars.merge(derived, judged.vars, own.vars, {"vllm_replicas": []} if own.state == "drain" else {})
    return {**told, **mirrors.mirrored(judged.mirrors, {**roles.defaults, **told})}


def _asked(pool: Pool) -> Sequence[rules.Rule]:
    """Every rule; a source may bring what a stack does not name."""
    return rules.RULES if pool.SUPPLIES_VARS else (*rules.RULES, *rules.BROUGHT)


def _place(finding: rules.Finding, judged: settings.Settings, machine: str) -> str:
    """Return where the variable stands in the file: with the machine that sets it (or its entry), else with its source or the stack."""
    key, own = judged.key(machine), judged.machines[machine].vars
    if finding.machine:
        named = getattr(judged.machines[machine], finding.key, None) is not None
        return f"{key}.{finding.key}" if named else f"{key.partition('.machines.')[0]}.{finding.key}"
    name, *entry = re.split(r"[.\[]", finding.key, maxsplit=1)
    told = own.get(name)
    here = name in own and (not isinstance(told, Mapping) or not entry or entry[0] in told)
    return f"{key}.vars.{finding.key}" if here else f"vars.{finding.key}"


def _error(
    rule: rules.Rule, finding: rules.Finding, key: str, file: str, waiver: settings.Waiver | None, today: datetime.date
) -> SettingsError:
    """Return one finding in the form of a mistake in a file; with its waiver, in force or not."""
    seen = finding.seen
    if waiver:
        over = f"its waiver expired on {waiver.expires} and does not count"
        seen += f"\n({f'waived until {waiver.expires}: {waiver.reason}' if waiver.expires >= today else over})"
    why = WAIVE.format(rule=rule.name)
    if finding.verb:
        why = f"`fleet {finding.verb} -s {_stack(file)}` writes it; {why}"
    return SettingsError(file=file, key=key, value=finding.value, seen=seen, allowed=finding.wanted, next=why)


def _stack(file: str) -> str:
    return file.removeprefix("stacks/Pulumi.").removesuffix(".yaml")
