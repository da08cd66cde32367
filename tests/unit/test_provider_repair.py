"""A failed repair keeps the drift in the state, so the next run repairs it: fleet/provider/playbook.py."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.ansible import converge
from fleet.drift import Difference
from fleet.provider import base
from fleet.provider.base import InitFailed
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots

DRIFT = [Difference("file", "/etc/x", "mode", "0644", "0600").to_json()]
STATE: dict[str, Any] = {
    "managed": {"declared": {"file /etc/x": True}, "expected": {"file /etc/x": {"mode": "0644"}}},
    "drift": DRIFT,
}


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)


def repair(error: Exception | None = None) -> Any:
    """Update a Host whose state has drift; the run ends with this error."""

    def run(*_: Any) -> converge.Outcome:
        if error:
            raise error
        return converge.Outcome({}, converge.managed_set.Declared({"file /etc/x": True}), 1, 1, {"host": 1.0})

    resource = Playbook("Host", (), Slots(), run=run, read=lambda *_: [{"file /etc/x": {"mode": "0644"}}])
    request = base.Request("urn:pulumi:s::p::fleet:index:Host::glm-1", lambda *_: None, threading.Event())
    inputs = {"node": {"name": "glm-1", "address": "192.0.2.1"}, "vars": {}, "roles": {}}
    return resource.apply(request, inputs, {**inputs, **STATE})


def test_a_failed_repair_keeps_the_drift() -> None:
    with pytest.raises(InitFailed) as caught:
        repair(errors.ConvergeFailed(node="glm-1", seen="it broke"))
    assert caught.value.properties["drift"] == DRIFT


def test_a_repair_without_failure_ends_the_drift() -> None:
    assert repair()["drift"] == []
