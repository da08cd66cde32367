"""Validates a stack's role variables: every mistake and every warning, with the stack's waivers.

Brings together what `role_vars` knows of names and types and what `rules` know of model and hardware. Pure: settings in,
`Findings` out. Called by `fleet.program.config` before any resource is declared, and by `fleet plan`.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import SettingsError
from fleet.findings import weigh
from fleet.sources.pool import Pool
from fleet.stack import mirrors, role_vars, rules, settings

WAIVE = "docs/rules.md says why ({rule})"


@dataclass
class Findings:
    """The findings in the order of the stack file: `mistakes` stop, `warnings` are shown and do not.

    `mistyped`: values have other types than the roles want, so that no rule can check them.
    """

    mistyped: bool = False
    mistakes: list[SettingsError] = field(default_factory=list)
    warnings: list[SettingsError] = field(default_factory=list)


def validate(stack: settings.Settings, roles: role_vars.Roles, file: str, today: datetime.date) -> Findings:
    """Return what roles and rules find wrong with the stack's variables, of the stack and of each machine."""
    findings = Findings()
    findings.mistakes += roles.validate(stack.vars, file, "vars")
    for name, machine in stack.machines.items():
        wrong = roles.validate(machine.vars, file, f"{stack.key(name)}.vars")
        findings.mistakes += map(stack.located, wrong)
    if findings.mistakes:
        findings.mistyped = True
        return findings
    reported: set[str] = set()
    for name in stack.machines:
        planned = plan(stack, roles, name)
        for rule in _rules(stack.pool(name)):
            level, note = weigh(rule.level, stack.waiver(rule.name), today)
            for finding in rule.check(planned):
                where = _place(finding, stack, name)
                error = stack.located(_error(rule, finding, where, file, note))
                if str(error) not in reported:  # once for all machines that share it
                    reported.add(str(error))
                    (findings.mistakes if level == "error" else findings.warnings).append(error)
    return findings


def plan(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> rules.Planned:
    """Return one machine as rules see it: with the roles' defaults where the stack says nothing."""
    own = roles.coerced(variables(stack, roles, machine))
    disk = stack.pool(machine).disk(machine)
    return rules.Planned({**roles.defaults, **own}, stack.gpus(machine), rules.Disk(*disk) if disk else None)


def variables(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> dict[str, Any]:
    """Return the role variables of one machine: what its form tells, under the stack's, under its own; all through the mirrors.

    A draining machine serves nothing.
    """
    derived = {"rocm_gpus": stack.gpus(machine)}
    own = stack.machines[machine]
    told = role_vars.merge(derived, stack.vars, own.vars, {"vllm_replicas": []} if own.state == "drain" else {})
    return {**told, **mirrors.mirrored(stack.mirrors, {**roles.defaults, **told})}


def _rules(pool: Pool) -> Sequence[rules.Rule]:
    """Every rule; a source may bring what a stack does not name."""
    return rules.RULES if pool.SUPPLIES_VARS else (*rules.RULES, *rules.BROUGHT)


def _place(finding: rules.StackFinding, stack: settings.Settings, machine: str) -> str:
    """Return where the variable stands in the file: with the machine that sets it (or its entry), else with its source or the stack."""
    key, own = stack.key(machine), stack.machines[machine].vars
    if finding.machine:
        named = getattr(stack.machines[machine], finding.key, None) is not None
        return f"{key}.{finding.key}" if named else f"{key.partition('.machines.')[0]}.{finding.key}"
    name, *entry = re.split(r"[.\[]", finding.key, maxsplit=1)
    told = own.get(name)
    here = name in own and (not isinstance(told, Mapping) or not entry or entry[0] in told)
    return f"{key}.vars.{finding.key}" if here else f"vars.{finding.key}"


def _error(rule: rules.Rule, finding: rules.StackFinding, key: str, file: str, note: str) -> SettingsError:
    """Return one finding in the form of a mistake in a file, with the note about its waiver."""
    why = WAIVE.format(rule=rule.name)
    if finding.verb:
        why = f"`fleet {finding.verb} -s {_stack(file)}` writes it; {why}"
    return SettingsError(
        file=file, key=key, value=finding.value, seen=finding.seen + note, allowed=finding.wanted, next=why
    )


def _stack(file: str) -> str:
    return file.removeprefix("stacks/Pulumi.").removesuffix(".yaml")
