"""Patches of the Pulumi SDK, one a file: what it works around, the upstream issue, and the test that says when it can go."""
