"""A failed repair keeps the drift in the state, so the next run repairs it; a run gets its roles as data: fleet/provider/playbook.py."""

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


def repair(error: Exception | None = None, jobs: list[converge.Job] | None = None) -> Any:
    """Update a Host whose state has drift; the run ends with this error, its job joins `jobs`."""

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        if jobs is not None:
            jobs.append(job)
        if error:
            raise error
        return converge.Outcome({}, converge.managed_set.Declared({"file /etc/x": True}), 1, 1, {"host": 1.0})

    resource = Playbook("Host", (), Slots(), run=run, read=lambda *_: [{"file /etc/x": {"mode": "0644"}}])
    request = base.Request("urn:pulumi:s::p::fleet:index:Host::glm-1", lambda *_: None, threading.Event())
    inputs = {"node": {"name": "glm-1", "address": "192.0.2.1"}, "vars": {}, "roles": {"host": ""}}
    return resource.apply(request, inputs, {**inputs, **STATE})


def test_a_failed_repair_keeps_the_drift() -> None:
    with pytest.raises(InitFailed) as caught:
        repair(errors.ConvergeFailed(node="glm-1", seen="it broke"))
    assert caught.value.properties["drift"] == DRIFT


def test_a_repair_without_failure_ends_the_drift() -> None:
    assert repair()["drift"] == []


def test_the_playbook_gets_the_roles_of_its_machine() -> None:
    jobs: list[converge.Job] = []
    repair(jobs=jobs)
    assert jobs[0].data["fleet_roles"] == ["host"]
