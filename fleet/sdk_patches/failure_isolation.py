"""Let the other machines go on after one failed, with `pulumi up --continue-on-error`.

Works around: the SDK raises the failure of a resource in all that depends on it, and so never registers the dependents. The program ends
with a traceback while other machines still work; if it went on, the Pulumi engine would delete the dependents as removed from the program.
With unknown outputs instead, that engine gets every registration, skips what depends on the failure, and names the failed resource.
Upstream: pulumi/pulumi#23844 made the outputs of a failed resource raise; they were unknown before.
Delete it when test_the_sdk_does_not_register_what_depends_on_a_failure of tests/unit/test_sdk_patches_failure_isolation.py fails.
Applied by fleet.program.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pulumi
from pulumi.runtime import settings
from pulumi.runtime.proto import resource_pb2, resource_pb2_grpc

T = TypeVar("T")


class _Monitor(resource_pb2_grpc.ResourceMonitorStub):
    """The Pulumi engine's resource monitor, with one answer changed: outputs of a failed or skipped resource are unknown.

    A subclass because the SDK serves the hooks of resources (fleet/sources/cloud_machines.py) only for an instance of the stub.
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


def apply() -> None:
    """Let the program run on after a failed resource, from now on."""
    if not isinstance(settings.SETTINGS.monitor, _Monitor):
        settings.SETTINGS.monitor = _Monitor(settings.SETTINGS.monitor)


def together(shape: Callable[[Sequence[Any]], T], *parts: pulumi.Output[Any]) -> pulumi.Output[T | None]:
    """Return `shape` of the parts' values as one output.

    With an unknown part the whole is unknown in a preview, and None in an update, where a failure left the part unknown.
    `Output.all` would make ninety outputs for each machine, for all of which the SDK waits again and again: a twentieth of a preview of
    100 machines.
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
