"""Validates a stack's role variables: returns every mistake and every warning, with the stack's waivers applied.

`role_vars` checks names and types, `rules` check model and hardware. Pure: settings in, `Findings` out. Called by fleet.program.config before
any resource is declared, and by fleet.cli.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import SettingsError
from fleet.findings import weigh
from fleet.stack import gateway_form, mirrors, resource_roles, role_vars, rules, settings

# Role variables whose defaults are for GPUs.
KERNEL_ARGUMENTS = ("host_kernel_arguments", "host_kernel_arguments_intel")


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
        findings.mistakes += map(stack.locate_mistake, _without_a_role(stack, roles, name, file))
    if findings.mistakes:
        findings.mistyped = True
        return findings
    findings.warnings += gateway_form.warnings(stack.gateway, file)
    reported: set[str] = set()
    for name in filter(stack.gpus, stack.machines):  # the others serve nothing, whatever the stack's variables are
        plan = machine_plan(stack, roles, name)
        # A source may supply variables that a stack must otherwise set.
        for rule in (*rules.RULES, *(() if stack.pool(name).SUPPLIES_VARS else rules.UNLESS_SUPPLIED)):
            level, note = weigh(rule.level, stack.waiver(rule.name), today)
            for finding in rule.check(plan):
                error = stack.locate_mistake(_error(rule, finding, _key(finding, stack, name), file, note))
                if str(error) not in reported:  # once for all machines that share it
                    reported.add(str(error))
                    (findings.mistakes if level == "error" else findings.warnings).append(error)
    return findings


def _without_a_role(stack: settings.Settings, roles: role_vars.Roles, name: str, file: str) -> Iterator[SettingsError]:
    """Yield the variables of a machine without GPUs that belong to roles which do not run there."""
    own, gpus = stack.machines[name].vars, stack.gpus(name)
    for variable in () if gpus else sorted(own.keys() - roles.variables_on(own, gpus)):
        allowed = f"variables of the roles {' and '.join(resource_roles.WITHOUT_GPUS)}, which run there"
        key = f"{stack.key(name)}.vars.{variable}"
        yield SettingsError(file=file, key=key, seen="the machine has no GPUs and serves nothing", allowed=allowed)


def machine_plan(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> rules.MachinePlan:
    """Return one machine as the rules see it: the variables of the roles that run there, with their defaults."""
    values = {**roles.defaults, **roles.coerce(variables(stack, roles, machine))}
    gpus, disk = stack.gpus(machine), stack.pool(machine).disk(machine)
    return rules.MachinePlan(roles.variables_on(values, gpus), gpus, rules.Disk(*disk) if disk else None)


def variables(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> dict[str, Any]:
    """Return the role variables of one machine: its number of GPUs, the stack's variables, its own, then the mirrors; later ones win.

    A machine without GPUs needs no kernel arguments for them. A draining machine has no replicas.
    """
    member, gpus = stack.machines[machine], stack.gpus(machine)
    arguments: dict[str, Any] = {} if gpus else {name: [] for name in KERNEL_ARGUMENTS}
    drained: dict[str, Any] = {"vllm_replicas": []} if member.state == "drain" else {}
    merged = role_vars.merge({"rocm_gpus": gpus, **arguments}, stack.vars, member.vars, drained)
    return {**merged, **mirrors.mirrored_variables(stack.mirrors, {**roles.defaults, **merged})}


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
    next_step = f"docs/rules.md says why ({rule.name})"
    if finding.verb:
        stack = file.removeprefix("stacks/Pulumi.").removesuffix(".yaml")
        next_step = f"`fleet {finding.verb} -s {stack}` writes it; {next_step}"
    return SettingsError(
        file=file, key=key, value=finding.value, seen=finding.seen + note, allowed=finding.wanted, next=next_step
    )
