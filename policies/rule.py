"""A rule about a resource: a pure function from a resource to its findings, and the texts around it.

A rule sees secrets in clear, so it never puts a secret's value into a message. It ignores a value that is not known yet: `up`
calls it again before it changes the resource. Used by rules/ and pack.
"""

from dataclasses import dataclass

from fleet.findings import Finding, Rule
from policies.context import Context


@dataclass(frozen=True, kw_only=True)
class ResourceRule(Rule[Context, Finding]):
    """One rule (fleet.findings.Rule): `remedy` says what to do, where a finding does not.

    `kinds` are the resources that it checks, `reads` other resources that it needs, which Pulumi registers earlier.
    `at_end`: it needs outputs, so it runs when all resources are registered.
    """

    remedy: str
    kinds: tuple[str, ...]
    reads: tuple[str, ...] = ()
    at_end: bool = False

    def message(self, finding: Finding) -> str:
        """Return the message for one finding: seen, reason, remedy."""
        return f"{finding.seen}: {finding.reason or self.reason}\nremedy: {finding.next or self.remedy}"
