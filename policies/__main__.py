"""The policy pack's server: started by the engine, never by hand (it blocks). The rules are in rules.py, and testable there."""

import sys

import pulumi_policy
import rules

from fleet.provider import engine

# After a kill -9 of the CLI nobody ends this process; it has no work of its own to wait for. The last two arguments are the
# address of the engine and the folder of the pack.
engine.watch(sys.argv[-2], stop=lambda: None, busy=lambda: False)
pulumi_policy.PolicyPack("glm-fleet", rules.POLICIES)
