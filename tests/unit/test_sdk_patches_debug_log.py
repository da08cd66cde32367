"""What the SDK tells the engine of itself: nothing, unless somebody asks."""

import importlib.util
from typing import Any

import pulumi.log
import pytest

from fleet.sdk_patches import debug_log


class Engine:
    """Takes log lines as Pulumi's engine does."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def Log(self, request: Any) -> None:
        self.lines.append(request.message)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    spec = importlib.util.find_spec("pulumi.log")
    assert spec and spec.loader
    fresh = importlib.util.module_from_spec(spec)  # another test in this process may have hushed the shared one
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(fresh, "get_engine", lambda: engine)
    monkeypatch.setattr(pulumi, "log", fresh)
    return engine


def test_debug_lines_of_the_sdk_are_not_sent_and_all_others_are(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    debug_log.hush()
    pulumi.log.debug("registering resource", None, stream_id=1)
    pulumi.log.error("it went wrong")
    assert engine.lines == ["it went wrong"]


def test_they_are_sent_when_asked_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_DEBUG", "1")
    debug_log.hush()
    pulumi.log.debug("registering resource")
    assert engine.lines == ["registering resource"]
