"""Load Pulumi's protocol without Pulumi's SDK, in the process of a plugin.

Works around: `import pulumi.runtime.proto` imports the whole SDK, a tenth of a second at each start of a plugin; a preview with --refresh
starts every plugin twice.
Upstream: no upstream issue found as of 2026-11-29.
Delete it when test_the_protocol_imports_the_whole_sdk_without_the_stub of tests/unit/test_sdk_patches_sdk_stub.py fails.
Applied first of all by the __main__ of each plugin: `import pulumi` gives an empty package in that process.
"""

import importlib.util
import sys


def apply() -> None:
    """Make `pulumi` and `pulumi.runtime` empty packages whose submodules can be imported, from now on."""
    for name in ("pulumi", "pulumi.runtime"):
        spec = importlib.util.find_spec(name)
        assert spec, f"{name} is locked in requirements/base.txt"
        sys.modules[name] = importlib.util.module_from_spec(spec)
