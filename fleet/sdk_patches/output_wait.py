"""Wait once for all outputs at the end of a program, and preview with few threads.

Works around: the SDK waits for all open outputs until the first is known, then for all others again. The time grows with the square of
their number; 1,000 machines have 60,000. And each registration in flight holds a thread.
Upstream: pulumi/pulumi#22411 introduced this wait, in place of a busy one; #7663 (open) is about the threads.
Delete it when test_the_sdk_waits_again_for_all_outputs_after_each of tests/unit/test_sdk_patches_output_wait.py fails.
Applied by fleet.program.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
from pulumi.runtime import settings
from pulumi.runtime.stack import ResourceRegistrationFailed

# Threads of a preview, in which the Pulumi engine answers at once. An update needs one for each registration in flight.
PREVIEW = 64


def apply() -> None:
    """Wait once at the program's end, and use PREVIEW threads in a preview, from now on."""
    if not isinstance(settings.SETTINGS.outputs, _Outputs):
        settings.SETTINGS.outputs = _Outputs(settings.SETTINGS.outputs)
    if pulumi.runtime.is_dry_run():
        asyncio.get_event_loop().set_default_executor(ThreadPoolExecutor(PREVIEW))


class _Outputs(set[Any]):
    """The open outputs; iterating yields one future, which ends when all have ended."""

    def __iter__(self) -> Iterator[Any]:
        yield asyncio.ensure_future(_all(set(super().__iter__())))


async def _all(pending: AbstractSet[Any]) -> None:
    """Wait for all; raise the exception of one at once, except for those that the SDK itself ignores."""
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        for future in done:
            with contextlib.suppress(ResourceRegistrationFailed):
                future.result()
