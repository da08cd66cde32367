"""Validates a stack's role variables: returns every mistake and every warning, with the stack's waivers applied.

`role_vars` checks names and types, `rules` check model and hardware. Pure: settings in, `Findings` out. Called by fleet.program.config before
any resource is declared, and by fleet.cli.
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
    """The findings in the order of the stack file: `mistakes` stop a run, `warnings` are only shown.

    `mistyped`: values have the wrong type, so no rule could check them.
    """

    mistyped: bool = False
    mistakes: list[SettingsError] = field(default_factory=list)
    warnings: list[SettingsError] = field(default_factory=list)


def validate(stack: settings.Settings, roles: role_vars.Roles, file: str, today: datetime.date) -> Findings:
    """Return the findings of roles and rules about the variables of the stack and of each machine."""
    findings = Findings()
    findings.mistakes += roles.validate(stack.vars, file, "vars")
    for name, machine in stack.machines.items():
        mistakes = roles.validate(machine.vars, file, f"{stack.key(name)}.vars")
        findings.mistakes += map(stack.locate_mistake, mistakes)
    if findings.mistakes:
        findings.mistyped = True
        return findings
    reported: set[str] = set()
    for name in stack.machines:
        plan = machine_plan(stack, roles, name)
        for rule in _rules(stack.pool(name)):
            level, note = weigh(rule.level, stack.waiver(rule.name), today)
            for finding in rule.check(plan):
                error = stack.locate_mistake(_error(rule, finding, _key(finding, stack, name), file, note))
                if str(error) not in reported:  # once for all machines that share it
                    reported.add(str(error))
                    (findings.mistakes if level == "error" else findings.warnings).append(error)
    return findings


def machine_plan(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> rules.MachinePlan:
    """Return one machine as the rules see it, with the roles' defaults for variables that the stack leaves out."""
    values = roles.coerce(variables(stack, roles, machine))
    disk = stack.pool(machine).disk(machine)
    return rules.MachinePlan({**roles.defaults, **values}, stack.gpus(machine), rules.Disk(*disk) if disk else None)


def variables(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> dict[str, Any]:
    """Return the role variables of one machine: its number of GPUs, the stack's variables, its own, then the mirrors; later ones win.

    A draining machine has no replicas.
    """
    member = stack.machines[machine]
    drained: dict[str, Any] = {"vllm_replicas": []} if member.state == "drain" else {}
    merged = role_vars.merge({"rocm_gpus": stack.gpus(machine)}, stack.vars, member.vars, drained)
    return {**merged, **mirrors.mirrored_variables(stack.mirrors, {**roles.defaults, **merged})}


def _rules(pool: Pool) -> Sequence[rules.Rule]:
    """Return the rules for machines of a source, which may supply variables that a stack must otherwise set."""
    return rules.RULES if pool.SUPPLIES_VARS else (*rules.RULES, *rules.UNLESS_SUPPLIED)


def _key(finding: rules.StackFinding, stack: settings.Settings, machine: str) -> str:
    """Return the finding's key in the file: of the machine where that sets the variable (or its entry), else of its source or the stack."""
    key, values = stack.key(machine), stack.machines[machine].vars
    if finding.machine:
        has_key = getattr(stack.machines[machine], finding.key, None) is not None
        return f"{key}.{finding.key}" if has_key else f"{key.partition('.machines.')[0]}.{finding.key}"
    name, *entry = re.split(r"[.\[]", finding.key, maxsplit=1)
    value = values.get(name)
    machine_sets = name in values and (not isinstance(value, Mapping) or not entry or entry[0] in value)
    return f"{key}.vars.{finding.key}" if machine_sets else f"vars.{finding.key}"


def _error(rule: rules.Rule, finding: rules.StackFinding, key: str, file: str, note: str) -> SettingsError:
    """Return a finding as a mistake in the file, with the note about its waiver."""
    next_step = WAIVE.format(rule=rule.name)
    if finding.verb:
        next_step = f"`fleet {finding.verb} -s {_stack(file)}` writes it; {next_step}"
    return SettingsError(
        file=file, key=key, value=finding.value, seen=finding.seen + note, allowed=finding.wanted, next=next_step
    )


def _stack(file: str) -> str:
    return file.removeprefix("stacks/Pulumi.").removesuffix(".yaml")
