"""Drop the SDK's own debug lines: a preview of 100 machines then takes a tenth less time.

Works around: the SDK sends four debug lines for each resource, each a call to the Pulumi engine for which the program waits, also when
nobody asked for debug output.
Upstream: pulumi/pulumi#7292, closed by #7295, which removed other lines.
Delete it when test_the_sdk_sends_debug_lines_without_the_patch of tests/unit/test_sdk_patches_debug_log.py fails.
Applied by fleet.program. `FLEET_DEBUG=1 pulumi up --debug` shows the lines.
"""

import os

import pulumi.log


def apply() -> None:
    """Drop the SDK's debug lines from now on, unless FLEET_DEBUG is set."""
    if not os.environ.get("FLEET_DEBUG"):
        setattr(pulumi.log, "debug", _drop)  # noqa: B010, an assignment would claim that the types agree


def _drop(msg: str, *_: object, **__: object) -> None:
    """Accept the arguments of `pulumi.log.debug`."""
