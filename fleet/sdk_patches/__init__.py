"""Patches of the Pulumi SDK, one in each file, with one function `apply`. Called by fleet.program, the plugins and the policy pack.

Each file opens with what it works around, the upstream issue, and the test that fails when the SDK no longer needs the patch.
"""
