"""What can be known from the plan alone: pinned things are pinned, replicas do not collide, the model fits the GPUs, flags fit it.

Pure functions on one machine's role variables; no I/O but the dated facts in data/. `RULES` are in the order of docs/rules.md.
Called by `fleet.stack.validate`, which knows the stack file and its waivers.
Add a rule: a function and a Rule in one of these modules, a test an edge in tests/unit/test_stack_rules_MODULE.py, then `make docs`.
"""

from collections.abc import Sequence

from fleet.stack.rules import disks, gpus, memory, pins, serving, versions
from fleet.stack.rules.pins import BROUGHT
from fleet.stack.rules.rule import Disk, Planned, Rule, StackFinding

__all__ = ["BROUGHT", "RULES", "Disk", "Planned", "Rule", "StackFinding"]

RULES: Sequence[Rule] = (*pins.RULES, *gpus.RULES, *memory.RULES, *disks.RULES, *serving.RULES, *versions.RULES)
