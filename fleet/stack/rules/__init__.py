"""The rules that need no connection: versions are pinned, replicas do not collide, the model fits the GPUs, flags fit the model.

Pure functions of one machine's role variables, and the dated facts in data/. `RULES` are in the order of docs/rules.md.
Called by fleet.stack.validate, which knows the stack file and its waivers.
Add a rule: a function in one of these modules with the decorator `rule`, a test per edge in tests/unit/test_stack_rules_MODULE.py,
then `make docs`.
"""

from collections.abc import Sequence

from fleet import findings
from fleet.stack.rules import access, disks, gpus, members, memory, pins, pods, serving, versions
from fleet.stack.rules.gpus import PARALLEL
from fleet.stack.rules.members import member_key
from fleet.stack.rules.pins import UNLESS_SUPPLIED
from fleet.stack.rules.rule import Disk, MachinePlan, Rule, StackFinding

__all__ = [
    "OF_MEMBERS",
    "PARALLEL",
    "RULES",
    "UNLESS_SUPPLIED",
    "Disk",
    "MachinePlan",
    "Rule",
    "StackFinding",
    "member_key",
]

RULES: Sequence[Rule] = [
    rule
    for module in (pins, gpus, memory, disks, serving, access, pods, members, versions)
    for rule in vars(module).values()
    if isinstance(rule, findings.Rule) and rule not in (*UNLESS_SUPPLIED, member_key)
]
# Those about members of the stack's own cluster, also without GPUs.
OF_MEMBERS: Sequence[Rule] = [rule for rule in RULES if rule in vars(members).values()]
