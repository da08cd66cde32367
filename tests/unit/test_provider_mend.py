"""A mend that fails leaves the drift in the state, so the next run mends it: fleet/provider/playbook.py."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.ansible import converge
from fleet.drift import Difference
from fleet.provider import base
from fleet.provider.base import InitFailed
from fleet.provider.playbook import Playbook, Slots

DRIFT = [Difference("file", "/etc/x", "mode", "0644", "0600").to_json()]
STATE: dict[str, Any] = {
    "managed": {"declared": {"file /etc/x": True}, "expected": {"file /etc/x": {"mode": "0644"}}},
    "drift": DRIFT,
}


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)


def mend(outcome: Any) -> Any:
    """Update a Host whose state has drift; `outcome` is what the run ends with."""

    def run(*_: Any) -> converge.Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return converge.Outcome({}, converge.managed_set.Declared({"file /etc/x": True}), 1, 1, {"host": 1.0})

    resource = Playbook("Host", (), Slots(), run=run, read=lambda *_: [{"file /etc/x": {"mode": "0644"}}])
    request = base.Request("urn:pulumi:s::p::fleet:index:Host::glm-1", lambda *_: None, threading.Event())
    inputs = {"node": {"name": "glm-1", "address": "192.0.2.1"}, "vars": {}, "roles": {}}
    return resource.apply(request, inputs, {**inputs, **STATE})


def test_a_mend_that_fails_keeps_the_drift() -> None:
    with pytest.raises(InitFailed) as caught:
        mend(errors.ConvergeFailed(node="glm-1", seen="it broke"))
    assert caught.value.properties["drift"] == DRIFT


def test_a_mend_that_goes_well_ends_it() -> None:
    assert mend(None)["drift"] == []
