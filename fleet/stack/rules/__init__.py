"""The rules that need no connection: versions are pinned, replicas do not collide, the model fits the GPUs, flags fit the model.

Pure functions of one machine's role variables, and the dated facts in data/. `RULES` are in the order of docs/rules.md.
Called by fleet.stack.validate, which knows the stack file and its waivers.
Add a rule: a function with the rule's name and a Rule in one of these modules, a test per edge in
tests/unit/test_stack_rules_MODULE.py, then `make docs`.
"""

from collections.abc import Sequence

from fleet.stack.rules import disks, gpus, memory, pins, serving, versions
from fleet.stack.rules.pins import UNLESS_SUPPLIED
from fleet.stack.rules.rule import Disk, MachinePlan, Rule, StackFinding

__all__ = ["RULES", "UNLESS_SUPPLIED", "Disk", "MachinePlan", "Rule", "StackFinding"]

RULES: Sequence[Rule] = (*pins.RULES, *gpus.RULES, *memory.RULES, *disks.RULES, *serving.RULES, *versions.RULES)
