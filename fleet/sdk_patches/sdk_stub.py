"""Pulumi's protocol without Pulumi's SDK: the package imports all of itself, a tenth of a second at each start of a plugin.

A preview with --refresh starts every plugin twice. Called first of all by the plugins' __main__, in processes of their own only:
`import pulumi` gives an empty package there. Delete it when the SDK imports what is used.
"""

import importlib.util
import sys


def load() -> None:
    """From here on `pulumi` and `pulumi.runtime` are found, with what lies in them, and not run."""
    for name in ("pulumi", "pulumi.runtime"):
        spec = importlib.util.find_spec(name)
        assert spec, f"{name} is locked in requirements/base.txt"
        sys.modules[name] = importlib.util.module_from_spec(spec)
