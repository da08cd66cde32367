"""The policy pack's server: started by the engine, never by hand (it blocks). The rules are in rules.py, and testable there."""

import pulumi_policy
import rules

pulumi_policy.PolicyPack("glm-fleet", rules.POLICIES)
