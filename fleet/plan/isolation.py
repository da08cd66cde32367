"""Keeps the failure of one machine from stopping the others, with `pulumi up --continue-on-error`.

Since pulumi#23844 the Python SDK raises the failure of a resource in everything that depends on it. Those are then never
registered: the program ends with a traceback while other machines still work, and had it gone on, the engine would take
what was not registered for removed from the program, and delete it. Before that change such outputs were unknown; the
engine gets every registration then, skips what depends on the failure, and names the failed resource at the end.
This module restores that. Called once by `fleet.plan.program`; delete it when the SDK registers dependents again.
"""

from typing import Any, TypeVar

import pulumi
from pulumi.runtime import settings
from pulumi.runtime.proto import resource_pb2

T = TypeVar("T")


class _Monitor:
    """The engine's resource monitor, with one answer changed: outputs of a failed or skipped resource are unknown."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def RegisterResource(self, request: Any) -> Any:
        answer = self._engine.RegisterResource(request)
        if answer.result == resource_pb2.Result.SUCCESS:
            return answer
        return resource_pb2.RegisterResourceResponse(urn=answer.urn, unknown=True)


def isolate_failures() -> None:
    """From here on a failed resource leaves the program running."""
    if not isinstance(settings.SETTINGS.monitor, _Monitor):
        settings.SETTINGS.monitor = _Monitor(settings.SETTINGS.monitor)


def or_none(output: pulumi.Output[T]) -> pulumi.Output[T | None]:
    """Return an output that is None where a failure left it unknown, so that the stack's outputs tell what is there."""

    async def known() -> T | None:
        return await output.future() if await output.is_known() else None

    return pulumi.Output.from_input(output if pulumi.runtime.is_dry_run() else known())
