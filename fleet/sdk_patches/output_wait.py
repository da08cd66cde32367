"""Lets a program of thousands of resources wait cheaply, where the SDK takes time that grows with the square, and a thread for each.

At its end a program waits for every output that is still open, until the first is there, and then for all the others once more: for
1,000 machines those are 60,000. And every registration that is under way holds a thread. Called once by `fleet.program`; delete
it when `wait_for_rpcs` of the SDK does better.
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

# Threads of a preview, whose answers come at once. A deployment needs one for each thing that it waits for.
PREVIEW = 64


def wait_once() -> None:
    """From here on the program's end waits once, and a preview with few threads."""
    if not isinstance(settings.SETTINGS.outputs, _Outputs):
        settings.SETTINGS.outputs = _Outputs(settings.SETTINGS.outputs)
    if pulumi.runtime.is_dry_run():
        asyncio.get_event_loop().set_default_executor(ThreadPoolExecutor(PREVIEW))


class _Outputs(set[Any]):
    """The outputs that are still open; who goes through them finds one, which is there when all are."""

    def __iter__(self) -> Iterator[Any]:
        yield asyncio.ensure_future(_all(set(super().__iter__())))


async def _all(pending: AbstractSet[Any]) -> None:
    """End when all are there; an exception of one is raised at once, but for what the SDK itself passes over."""
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        for one in done:
            with contextlib.suppress(ResourceRegistrationFailed):
                one.result()
