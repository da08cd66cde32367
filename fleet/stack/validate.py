"""Validates a stack's role variables: returns every mistake and every warning, with the stack's waivers applied.

`role_vars` checks names and types, `rules` check model and hardware. Pure: settings in, `Findings` out. Called by fleet.program.config before
any resource is declared, and by fleet.cli.
"""

import datetime
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import SettingsError
from fleet.findings import weigh
from fleet.stack import (
    cluster_form,
    gateway_form,
    kubernetes_form,
    kubernetes_vars,
    mirrors,
    resource_roles,
    role_vars,
    rules,
    settings,
)

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
    _reported: set[str] = field(default_factory=set)

    def judge(
        self,
        plan: rules.MachinePlan,
        applied: Sequence[rules.Rule],
        stack: settings.Settings,
        file: str,
        today: datetime.date,
        key: Callable[[rules.StackFinding], str],
        counts: Callable[[rules.StackFinding], bool] = lambda _: True,
    ) -> None:
        """Add what rules find in one plan, each finding once for all plans that share it. `key` returns its key, `counts` whether it holds."""
        for rule in applied:
            level, note = weigh(rule.level, stack.waiver(rule.name), today)
            for finding in filter(counts, rule.check(plan)):
                error = stack.locate_mistake(_error(rule, finding, key(finding), file, note))
                if str(error) not in self._reported:
                    self._reported.add(str(error))
                    (self.mistakes if level == "error" else self.warnings).append(error)


def validate(stack: settings.Settings, roles: role_vars.Roles, file: str, today: datetime.date) -> Findings:
    """Return the findings of roles and rules about the variables of the stack and of each machine."""
    findings = Findings()
    findings.mistakes += roles.validate(stack.vars, file, "vars")
    if stack.kubernetes:
        return _on_cluster(stack, stack.kubernetes, roles, file, today, findings)
    for name, machine in stack.machines.items():
        mistakes = roles.validate(machine.vars, file, f"{stack.key(name)}.vars")
        findings.mistakes += map(stack.locate_mistake, mistakes)
        findings.mistakes += map(stack.locate_mistake, _without_a_role(stack, roles, name, file))
    findings.mistakes += map(stack.locate_mistake, _without_a_cluster(stack, roles, file))
    if stack.cluster:
        return _own_cluster(stack, stack.cluster, roles, file, today, findings)
    if findings.mistakes:
        findings.mistyped = True
        return findings
    findings.warnings += gateway_form.warnings(stack.gateway, file)
    for name in filter(stack.gpus, stack.machines):  # the others serve nothing, whatever the stack's variables are
        plan = machine_plan(stack, roles, name)
        # A source may supply variables that a stack must otherwise set.
        applied = (*rules.RULES, *(() if stack.pool(name).SUPPLIES_VARS else rules.UNLESS_SUPPLIED))
        findings.judge(plan, applied, stack, file, today, functools.partial(_key, stack=stack, machine=name))
    return findings


def _own_cluster(
    stack: settings.Settings,
    cluster: cluster_form.OwnCluster,
    roles: role_vars.Roles,
    file: str,
    today: datetime.date,
    findings: Findings,
) -> Findings:
    """Return the findings about machines that become a cluster, in `findings`: those of the rules that are about hosts."""
    findings.mistakes += cluster_form.variable_mistakes(stack.vars, roles.owners, file, "vars")
    for name, machine in stack.machines.items():
        own = cluster_form.variable_mistakes(machine.vars, roles.owners, file, f"{stack.key(name)}.vars")
        findings.mistakes += map(stack.locate_mistake, own)
    if findings.mistakes:
        findings.mistyped = True
        return findings
    findings.warnings += cluster_form.warnings(cluster, file)
    for name in stack.machines:
        plan = machine_plan(stack, roles, name)
        applied = (
            *(rules.RULES if plan.gpus else rules.OF_MEMBERS),
            *(() if stack.pool(name).SUPPLIES_VARS else (rules.member_key,)),
        )
        findings.judge(
            plan,
            applied,
            stack,
            file,
            today,
            functools.partial(_key, stack=stack, machine=name),
            lambda finding: roles.owners.get(_split(finding)[0]) not in cluster_form.ELSEWHERE,
        )
    return findings


def _on_cluster(
    stack: settings.Settings,
    cluster: kubernetes_form.Cluster,
    roles: role_vars.Roles,
    file: str,
    today: datetime.date,
    findings: Findings,
) -> Findings:
    """Return the findings about the variables of the stack, in `findings`, and of each model on a cluster."""
    findings.mistakes += kubernetes_vars.mistakes(stack.vars, cluster, file, "vars")
    for name, model in cluster.models.items():
        key = f"kubernetes.models.{name}.vars"
        findings.mistakes += roles.validate(model.vars, file, key)
        findings.mistakes += kubernetes_vars.mistakes(model.vars, cluster, file, key)
    if findings.mistakes:
        findings.mistyped = True
        return findings
    findings.warnings += kubernetes_form.warnings(cluster, file)
    for name, model in cluster.models.items():
        plan = model_plan(stack, roles, name)
        findings.judge(
            plan,
            (*rules.RULES, *rules.UNLESS_SUPPLIED),
            stack,
            file,
            today,
            functools.partial(_place, values=model.vars, key=f"kubernetes.models.{name}.vars"),
            lambda finding: not kubernetes_vars.refusal(_split(finding)[0], cluster),
        )
        missing = model.surge * plan.gpus - cluster.quota.gpus
        if missing > 0:
            seen = f"a change adds {model.surge} x {plan.gpus} GPUs for a while, and the quota has {cluster.quota.gpus} to spare"
            allowed = f"kubernetes.quota.gpus of at least {model.surge * plan.gpus}, where as many are free; or surge 0"
            error = SettingsError(
                file=file, key=f"kubernetes.models.{name}.surge", value=model.surge, seen=seen, allowed=allowed
            )
            findings.mistakes.append(error)
    return findings


def _without_a_cluster(stack: settings.Settings, roles: role_vars.Roles, file: str) -> Iterator[SettingsError]:
    """Yield the variables of the role kubernetes in a stack whose machines become no cluster."""
    places = {f"{stack.key(name)}.vars": machine.vars for name, machine in stack.machines.items()}
    for key, values in () if stack.cluster else {"vars": stack.vars, **places}.items():
        for name in values:
            if roles.owners.get(name) == "kubernetes":
                allowed = "`glm-fleet:cluster`, which says that they do; or leave it out"
                seen = "the machines become no cluster"
                yield SettingsError(file=file, key=f"{key}.{name}", seen=seen, allowed=allowed)


def _without_a_role(stack: settings.Settings, roles: role_vars.Roles, name: str, file: str) -> Iterator[SettingsError]:
    """Yield the variables of a machine without GPUs that belong to roles which do not run there."""
    own, gpus, member = stack.machines[name].vars, stack.gpus(name), bool(stack.cluster)
    for variable in () if gpus else sorted(own.keys() - roles.variables_on(own, gpus, member)):
        allowed = f"variables of the roles {' and '.join(resource_roles.on_machine(gpus, member))}, which run there"
        key = f"{stack.key(name)}.vars.{variable}"
        yield SettingsError(file=file, key=key, seen="the machine has no GPUs and serves nothing", allowed=allowed)


def machine_plan(stack: settings.Settings, roles: role_vars.Roles, machine: str) -> rules.MachinePlan:
    """Return one machine as the rules see it: the variables of the roles that run there, with their defaults."""
    values = {**roles.defaults, **roles.coerce(variables(stack, roles, machine))}
    gpus, disk, member = stack.gpus(machine), stack.pool(machine).disk(machine), bool(stack.cluster)
    own = roles.variables_on(values, gpus, member)
    proxied = stack.gateway is not None
    return rules.MachinePlan(own, gpus, rules.Disk(*disk) if disk else None, member=member, gateway=proxied)


def model_plan(stack: settings.Settings, roles: role_vars.Roles, model: str) -> rules.MachinePlan:
    """Return one replica of a model on a cluster as the rules see it: a machine with as many GPUs as the replica's flags use."""
    values = model_variables(stack, roles, model)
    gpus = math.prod(rules.MachinePlan(values, 0).count(flag) for flag in rules.PARALLEL)
    return rules.MachinePlan(values, gpus, pod=True)


def model_variables(stack: settings.Settings, roles: role_vars.Roles, model: str) -> dict[str, Any]:
    """Return the role variables that have a meaning for a model on a cluster, with their defaults."""
    assert stack.kubernetes
    values = {**roles.defaults, **model_own(stack, roles, model)}
    return {name: value for name, value in values.items() if not kubernetes_vars.refusal(name, stack.kubernetes)}


def model_own(stack: settings.Settings, roles: role_vars.Roles, model: str) -> dict[str, Any]:
    """Return the role variables of a model on a cluster that the stack sets: its own over the stack's, then the mirrors."""
    assert stack.kubernetes
    merged = role_vars.merge(stack.vars, stack.kubernetes.models[model].vars)
    mirrored = mirrors.mirrored_variables(stack.mirrors, {**roles.defaults, **merged})
    own = roles.coerce({**merged, **mirrored})
    return {name: value for name, value in own.items() if not kubernetes_vars.refusal(name, stack.kubernetes)}


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
    return _place(finding, values, f"{key}.vars")


def _place(finding: rules.StackFinding, values: Mapping[str, Any], key: str) -> str:
    """Return the key of a finding about a variable: at `key`, whose `values` set the variable or its entry, else of the stack."""
    name, entry = _split(finding)
    value = values.get(name)
    own = name in values and (not isinstance(value, Mapping) or not entry or entry[0] in value)
    return f"{key}.{finding.key}" if own else f"vars.{finding.key}"


def _split(finding: rules.StackFinding) -> tuple[str, list[str]]:
    """Return the variable of a finding, and the entry in it, if any."""
    name, *entry = re.split(r"[.\[]", finding.key, maxsplit=1)
    return name, entry


def _error(rule: rules.Rule, finding: rules.StackFinding, key: str, file: str, note: str) -> SettingsError:
    """Return a finding as a mistake in the file, with the note about its waiver."""
    next_step = f"docs/rules.md says why ({rule.name})"
    if finding.verb:
        stack = file.removeprefix("stacks/Pulumi.").removesuffix(".yaml")
        next_step = f"`fleet {finding.verb} -s {stack}` writes it; {next_step}"
    return SettingsError(
        file=file, key=key, value=finding.value, seen=finding.seen + note, allowed=finding.wanted, next=next_step
    )
