"""The SDK registers what depends on a failed resource, too: fleet/sdk_patches/failure_isolation.py."""

from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, settings, stack
from pulumi.runtime.proto import resource_pb2

from fleet.sdk_patches import failure_isolation


class Mocks(pulumi.runtime.Mocks):
    """An engine that creates what does not fail."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return "id", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        return {}


class Monitor(mocks.MockMonitor):
    """An engine with --continue-on-error in which the resource `first` fails."""

    def __init__(self) -> None:
        super().__init__(Mocks())
        self.registered: list[str] = []

    def RegisterResource(self, request: Any) -> Any:
        if request.type == "fleet:index:Thing":  # and not the stack
            self.registered.append(request.name)
        if request.name != "first":
            return super().RegisterResource(request)
        urn = self.make_urn(request.parent, request.type, request.name)
        return resource_pb2.RegisterResourceResponse(urn=urn, result=resource_pb2.Result.FAIL)


class Thing(pulumi.CustomResource):
    """A resource whose input is its output."""

    value: pulumi.Output[str]

    def __init__(self, name: str, value: pulumi.Input[str]) -> None:
        super().__init__("fleet:index:Thing", name, {"value": value})


@pytest.fixture
def monitor() -> Monitor:
    """The engine of a program that has declared nothing yet."""
    monitor = Monitor()
    pulumi.runtime.set_mocks(Mocks(), project="glm-fleet", stack="test", monitor=monitor)
    return monitor


@pulumi.runtime.test  # type: ignore[untyped-decorator]
def program() -> None:
    Thing("second", Thing("first", "a").value)


def test_the_patched_sdk_registers_what_depends_on_a_failure(monitor: Monitor) -> None:
    failure_isolation.apply()
    program()
    assert monitor.registered == ["first", "second"]


def test_a_second_apply_changes_nothing(monitor: Monitor) -> None:
    failure_isolation.apply()
    patched = settings.SETTINGS.monitor
    failure_isolation.apply()
    assert settings.SETTINGS.monitor is patched is not monitor


def test_the_sdk_does_not_register_what_depends_on_a_failure(monitor: Monitor) -> None:
    with pytest.raises(stack.ResourceRegistrationFailed, match="first"):
        program()
    assert monitor.registered == ["first"], "fleet/sdk_patches/failure_isolation.py is no longer needed: delete `apply`"
