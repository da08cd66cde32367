"""Patches of the Pulumi SDK, one a file, each with one function `apply`.

A file opens with what it works around, the upstream issue, and the test that fails as soon as the SDK no longer needs the patch.
"""
