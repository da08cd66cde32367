"""Keeps the failure of one machine from stopping the others, with `pulumi up --continue-on-error`.

Since pulumi#23844 the Python SDK raises the failure of a resource in everything that depends on it. Those are then never
registered: the program ends with a traceback while other machines still work, and had it gone on, the engine would take
what was not registered for removed from the program, and delete it. Before that change such outputs were unknown; the
engine gets every registration then, skips what depends on the failure, and names the failed resource at the end.
This module restores that. Called once by `fleet.program`; delete it when the SDK registers dependents again.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pulumi
from pulumi.runtime import settings
from pulumi.runtime.proto import resource_pb2, resource_pb2_grpc

T = TypeVar("T")


class _Monitor(resource_pb2_grpc.ResourceMonitorStub):
    """The engine's resource monitor, with one answer changed: outputs of a failed or skipped resource are unknown.

    A stub by type alone: the SDK serves the hooks of resources (fleet/sources/cloud_machines.py) only where it sees one.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def RegisterResource(self, request: Any) -> Any:  # type: ignore[override]
        answer = self._engine.RegisterResource(request)
        if answer.result == resource_pb2.Result.SUCCESS:
            return answer
        return resource_pb2.RegisterResourceResponse(urn=answer.urn, unknown=True)


def isolate_failures() -> None:
    """From here on a failed resource leaves the program running."""
    if not isinstance(settings.SETTINGS.monitor, _Monitor):
        settings.SETTINGS.monitor = _Monitor(settings.SETTINGS.monitor)


def together(shape: Callable[[Sequence[Any]], T], *parts: pulumi.Output[Any]) -> pulumi.Output[T | None]:
    """Return `shape` of the parts' values as one output: of a stack's outputs, which tell what is there.

    Where a part is not known, the whole is not yet known in a preview, and None after a failure left it unknown.
    `Output.all` would do, but makes ninety outputs for each machine, and the SDK waits for all of them again and again:
    a twentieth of a preview of 100 machines.
    """

    async def complete() -> bool:
        return all([await part.is_known() for part in parts])

    async def value() -> T | None:
        return shape([await part.future() for part in parts]) if await complete() else None

    async def known() -> bool:
        return not pulumi.runtime.is_dry_run() or await complete()

    async def secret() -> bool:
        return any([await part.is_secret() for part in parts])

    return pulumi.Output(set(), value(), known(), secret())
