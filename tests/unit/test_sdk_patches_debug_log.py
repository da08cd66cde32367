"""The SDK sends debug lines to the Pulumi engine only with FLEET_DEBUG: fleet/sdk_patches/debug_log.py."""

import importlib.util
from typing import Any

import pulumi
import pulumi.log
import pytest
from pulumi.runtime import resource

from fleet.sdk_patches import debug_log


class Engine:
    """Receives log lines as the Pulumi engine does."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def Log(self, request: Any) -> None:
        self.lines.append(request.message)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    spec = importlib.util.find_spec("pulumi.log")
    assert spec and spec.loader
    fresh = importlib.util.module_from_spec(spec)  # another test in this process may have patched the shared one
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(fresh, "get_engine", lambda: engine)
    monkeypatch.setattr(pulumi, "log", fresh)
    return engine


def test_the_sdk_sends_all_lines_but_debug_lines(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    debug_log.apply()
    pulumi.log.debug("registering resource", None, stream_id=1)
    pulumi.log.error("it went wrong")
    assert engine.lines == ["it went wrong"]


def test_the_sdk_sends_debug_lines_with_fleet_debug(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_DEBUG", "1")
    debug_log.apply()
    pulumi.log.debug("registering resource")
    assert engine.lines == ["registering resource"]


class Mocks(pulumi.runtime.Mocks):
    """An engine that creates everything."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return "id", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        return {}


def test_the_sdk_sends_debug_lines_without_the_patch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "log", pulumi.log)
    pulumi.runtime.set_mocks(Mocks(), project="glm-fleet", stack="test")

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[str]:
        return pulumi.CustomResource("fleet:index:Node", "glm-1", {}).urn

    program()
    lines = [line for line in engine.lines if "glm-1" in line]
    assert len(lines) >= 3, "fleet/sdk_patches/debug_log.py is no longer needed: delete it"
