"""What the resource Gateway says of drained nodes and replicas: drift in a refresh, and nothing that an update reverts."""

import dataclasses
from pathlib import Path

import pytest

from fleet import drift, errors, ssh
from fleet.managed import rotation
from fleet.provider import base
from fleet.provider.gateway import Gateway
from fleet.provider.slots import Slots
from tests.support.gateway_resource import NODE, Runs, authority, inputs_of, request

LOOK = rotation.Look("answers", False, "", {}, 0, {}, 0, 0, {"glm-0": {"unit": "active", "proxy": "UP"}}, True)


def drift_of(seen: rotation.Look | errors.FleetError, *faces: str) -> tuple[list[str], list[str]]:
    """Return the drift of a refresh, and the warnings beside it."""

    def look(target: ssh.Target) -> rotation.Look:
        if isinstance(seen, errors.FleetError):
            raise seen
        return seen

    gateway = Gateway("Gateway", ("version",), Slots(), read=lambda *_: [{}], look=look)
    warnings: list[str] = []
    state = {"node": NODE, "vars": {"gateway_faces": [*faces]}, "managed": {}}
    properties = gateway.read(request(warnings=warnings), state)
    return [str(difference) for difference in drift.recorded(properties)], warnings


def test_drains_of_a_node_and_its_replicas_are_drift() -> None:
    marks = {"glm-0": "operator"}
    drained = dataclasses.replace(LOOK, draining=True, mark="turn", since=0, marks=marks, marks_since={"glm-0": 60})
    assert drift_of(LOOK, "node") == ([], [])
    assert drift_of(drained, "node")[0] == [
        "node glm-1 (drained by an unfinished turn, wanted in rotation: the end of the turn, by `pulumi up`)",
        "replica glm-1/glm-0 (drained by operator since 1970-01-01 00:01 UTC, "
        "wanted in rotation: `fleet undrain`, and no `pulumi up`, puts it back)",
    ]
    assert drift_of(drained, "clients") == ([], []), "without a node proxy nothing is drained"


def test_a_drain_by_hand_at_the_proxy_is_an_operator_s() -> None:
    assert drift_of(dataclasses.replace(LOOK, draining=True), "node")[0][0].startswith(
        "node glm-1 (drained by operator, "
    )


def test_a_proxy_that_cannot_be_asked_fails_no_refresh() -> None:
    error = errors.CommandFailed(node="glm-1", doing="ask how it serves", seen="the node proxy's admin.sock: timed out")
    assert drift_of(error, "node") == (
        [],
        ["whether glm-1 is drained is unknown: the node proxy's admin.sock: timed out"],
    )


def test_an_update_reverts_no_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    runs = Runs()
    gateway = Gateway("Gateway", ("version", "certificates", "ends"), Slots(), run=runs, read=lambda *_: [{}])
    signer = authority()
    first = gateway.apply(request(), inputs_of(signer, "node"), None)
    entry = drift.Difference("node", "glm-1", drift.ROTATION, "in rotation", "drained by operator").to_json()
    lines: list[str] = []
    again = dataclasses.replace(request(), report=lambda text, _: lines.append(text))
    second = gateway.apply(again, inputs_of(signer, "node"), {**first, "drift": [entry]})
    assert "revert" not in runs.jobs[-1].data and second["drift"] == []
    assert lines == ["stays as it is: node glm-1 (drained by operator, wanted in rotation)"]
