"""Keeps the SDK's own debug lines in the program: four for each resource, each a call to the engine that the program waits for.

Without them a preview of 100 machines takes a tenth less. `FLEET_DEBUG=1 pulumi up --debug` shows them. Called once by
`fleet.program`; delete it when the SDK asks first whether anybody wants to see them.
"""

import os

import pulumi.log


def hush() -> None:
    """From here on the SDK's debug lines go nowhere, unless FLEET_DEBUG is set."""
    if not os.environ.get("FLEET_DEBUG"):
        setattr(pulumi.log, "debug", _nowhere)  # noqa: B010, an assignment would claim that the types agree


def _nowhere(msg: str, *_: object, **__: object) -> None:
    """Take what `pulumi.log.debug` takes."""
