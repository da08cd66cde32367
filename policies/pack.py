"""The rules as policies of Pulumi's library, for one run on one stack. The library calls each policy for each resource.

A policy has one level for a whole run, so waivers are applied here, when the pack starts. Needs the stack and today's date.
Called by __main__.
"""

import datetime
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from fleet.findings import Level, weigh
from fleet.sdk_patches.property_cache import latest
from fleet.stack import preflight_checks
from fleet.stack import rules as stack_rules
from policies import data
from policies.context import UNKNOWN, Context, Props
from policies.pods import OBJECTS
from policies.rule import ResourceRule
from policies.rules import RULES
from policies.stack import Stack

OURS, CLUSTER, STACK = "fleet:index:", "kubernetes:", "pulumi:pulumi:Stack"
# Policies about the stack itself, which cannot be waived.
RECENT = "holes-recent", "The known vulnerabilities of vLLM were compared with their sources recently."
OLD = 45  # days: vLLM had a new advisory about every two weeks in 2026
WAIVERS = "waivers", "Each waiver has a reason and a last day, and every preview repeats it."
WAIVERS_KNOWN = "waivers-known", "Each waiver names a rule."
# The levels in the words of Pulumi's library.
ENFORCEMENT: Mapping[Level, EnforcementLevel] = {
    "error": EnforcementLevel.MANDATORY,
    "warning": EnforcementLevel.ADVISORY,
}
# Rules and preflight checks that a stack file waives in the same place; fleet/stack/validate.py and fleet/preflight apply those waivers.
WAIVED_ELSEWHERE = (
    *(rule.name for rule in (*stack_rules.RULES, *stack_rules.UNLESS_SUPPLIED)),
    *preflight_checks.WAIVABLE,
)


def policies(stack: Stack, today: datetime.date, rules: Sequence[ResourceRule] = RULES) -> list[Policy]:
    """Return every rule as a policy, and the policies about the stack itself."""
    return [
        *(_Run(rule, stack, today).policy() for rule in rules),
        _once(*WAIVERS_KNOWN, EnforcementLevel.MANDATORY, lambda: _unknown_waivers(stack, rules)),
        _once(*WAIVERS, EnforcementLevel.ADVISORY, lambda: _waivers(stack, rules, today)),
        _once(*RECENT, EnforcementLevel.ADVISORY, lambda: _old_data(today)),
    ]


class _Run:
    """One rule in one run: its waiver, and the other resources that it reads. Several threads call it at once."""

    def __init__(self, rule: ResourceRule, stack: Stack, today: datetime.date) -> None:
        self._rule, self._stack = rule, stack
        waiver = stack.waivers.get(rule.name)
        self._level, self._note = weigh(rule.level, waiver, today)
        self._waived = waiver is not None and waiver.in_force(today)
        self._others: dict[tuple[str, str], Props] = {}
        self._reported: set[str] = set()

    def policy(self) -> Policy:
        """Return the rule as a policy of the library. A waiver in force makes it advisory."""
        name, holds, remedy, level = self._rule.name, self._rule.holds, self._rule.remedy, ENFORCEMENT[self._level]
        if self._rule.at_end:
            return StackValidationPolicy(name, holds, self._all_outputs, level, remediation_steps=remedy)
        return ResourceValidationPolicy(name, holds, self._resource, level, remediation_steps=remedy)

    def _resource(self, args: ResourceValidationArgs, report: ReportViolation) -> None:
        """Check a resource's inputs before Pulumi changes it. The resources that it depends on came before."""
        self._remember(args)
        for message in self._check(args):
            report(message, None)  # None: about this resource

    def _all_outputs(self, args: StackValidationArgs, report: ReportViolation) -> None:
        """Check each resource's outputs, when all are registered."""
        for resource in args.resources:
            self._remember(resource)
        for resource in args.resources:
            for message in self._check(resource):
                report(message, resource.urn)

    def _remember(self, resource: ResourceValidationArgs | PolicyResource) -> None:
        if (kind := kind_of(resource.resource_type)) in self._rule.reads:
            self._others[kind, resource.name] = _plain(resource.props)

    def _check(self, resource: ResourceValidationArgs | PolicyResource) -> Iterator[str]:
        if (kind := kind_of(resource.resource_type)) not in self._rule.kinds:
            return
        context = Context(kind, resource.name, _plain(resource.props), resource.opts.protect, self._stack, self._others)
        for finding in self._rule.check(context):
            message = self._rule.message(finding) + self._note
            if self._waived and message in self._reported:  # once for all nodes that share it
                continue
            self._reported.add(message)
            yield message


def _once(name: str, holds: str, level: EnforcementLevel, messages: Callable[[], Iterator[str]]) -> Policy:
    """Return a policy that reports `messages` once per run, at the stack itself."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type == STACK:
            for message in messages():
                report(message, None)

    return ResourceValidationPolicy(name, holds, validate, level)


def _unknown_waivers(stack: Stack, rules: Sequence[ResourceRule]) -> Iterator[str]:
    """Yield a message for each waiver that names no rule."""
    names = [*(rule.name for rule in rules), *WAIVED_ELSEWHERE]
    for name in stack.waivers:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            remedy = (
                f"did you mean {near[0]}?"
                if near
                else "docs/policies.md, docs/rules.md and docs/preflight.md list the names"
            )
            yield f"waivers.{name}: no rule has this name\nremedy: {remedy}"


def _waivers(stack: Stack, rules: Sequence[ResourceRule], today: datetime.date) -> Iterator[str]:
    """Yield a message for each waiver that names a rule: in force, or expired."""
    names = {*(rule.name for rule in rules), *WAIVED_ELSEWHERE}
    for name, waiver in ((name, waiver) for name, waiver in stack.waivers.items() if name in names):
        remedy = "" if waiver.in_force(today) else "\nremedy: remove it, or give it a new last day"
        yield f"waivers.{name}: {waiver.sentence(today)}{remedy}"


def _old_data(today: datetime.date) -> Iterator[str]:
    """Yield a message when the list of vulnerabilities is old."""
    if (days := (today - data.vulnerabilities_checked()).days) > OLD:
        yield (
            f"policies/data/cves.yml was last compared with its sources {days} days ago, on {data.vulnerabilities_checked()}: "
            "vulnerabilities published since then are not checked\n"
            "remedy: a newer release of this project, or read vLLM's advisories and set `checked`"
        )


def kind_of(token: str) -> str:
    """Return Node, Host, … or Stack, or the kind of an object on a Kubernetes cluster that rules know; "" for another resource."""
    kind = token.rpartition(":")[2]
    if token.startswith(CLUSTER):
        return kind if kind in OBJECTS else ""
    return "Stack" if token == STACK else kind if token.startswith(OURS) else ""


def plain(value: Any) -> Any:
    """Return the library's value as plain dictionaries and lists: whole numbers as int, UNKNOWN where it raises."""
    match value:
        case Mapping():
            return {key: _at(value, key) for key in value}
        case Sequence() if not isinstance(value, str):
            return [_at(value, place) for place in range(len(value))]
        case float() if value.is_integer():
            return int(value)
    return value


def _at(place: Any, key: Any) -> Any:
    try:
        return plain(place[key])
    except UnknownValueError:
        return UNKNOWN


_plain = latest(plain)  # each resource's properties once, for all rules
