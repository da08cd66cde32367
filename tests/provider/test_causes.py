"""One cause is one message a run: a node that does not answer is reported with the first of its resources that notices."""

import socket
from collections.abc import Iterator

import grpc
import pytest

from fleet import errors
from fleet.drift import Difference
from fleet.provider.causes import Causes
from tests.support.plugin import Engine, Launch, Plugin, Props, half_made, urn

KEPT = {"managed": {"declared": {"file /etc/hosts": False}, "expected": {}}, "drift": []}
DRIFT = {**KEPT, "drift": [Difference("file", "/etc/hosts", "present", True, False).to_json()]}


@pytest.fixture
def fresh(launch: Launch) -> Iterator[Plugin]:
    """A plugin that has reported nothing yet, as each run has."""
    plugin = launch(Engine())
    yield plugin
    plugin.engine.close()


@pytest.fixture
def silent(connection: Props) -> Props:
    """A node at whose port nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return {**connection, "name": "glm-1", "port": taken.getsockname()[1]}


def test_a_refresh_reports_a_node_that_does_not_answer_once(fresh: Plugin, silent: Props) -> None:
    state = {"node": silent, "roles": {}, "vars": {}, **KEPT}
    with pytest.raises(grpc.RpcError) as caught:
        fresh.read("Host", {}, state)
    assert caught.value.details().startswith(f"glm-1: connect to root@127.0.0.1:{silent['port']}: connection refused\n")
    for kind in ("Image", "Weights", "Serving"):
        assert fresh.read(kind, {}, state) == state, "what was not read stays as it was"


def test_an_update_that_fails_for_a_reported_cause_fails_in_one_line_and_keeps_its_state(
    fresh: Plugin, silent: Props
) -> None:
    inputs = {"node": silent, "roles": {}, "vars": {}}
    with pytest.raises(grpc.RpcError):
        fresh.update("Image", inputs, {**inputs, **DRIFT}, inputs)
    with pytest.raises(grpc.RpcError) as caught:
        fresh.update("Weights", inputs, {**inputs, **DRIFT}, inputs)
    assert caught.value.details() == "glm-1: Weights: not done, for the reason reported with Image"
    half = half_made(caught.value)
    assert half.reasons == [caught.value.details()]
    assert half.properties["managed"] == KEPT["managed"]


REFUSED = errors.Unreachable(node="glm-1", doing="connect", seen="connection refused")


@pytest.mark.parametrize(
    ("error", "earlier"),
    [
        (REFUSED, "Host"),
        (errors.Unreachable(node="glm-1", doing="connect", seen="no answer within 15 s"), "Host"),
        (errors.Unreachable(node="glm-2", doing="connect", seen="connection refused"), ""),
        (errors.CommandFailed(node="glm-1", seen="no end within 60 s"), ""),
        (errors.Cancelled(node="glm-1", seen="cancelled"), ""),
        (errors.FleetError(seen="of no node"), ""),
    ],
    ids=lambda value: str(value).partition("\n")[0],
)
def test_what_makes_a_node_unreachable_is_one_cause(error: errors.FleetError, earlier: str) -> None:
    causes = Causes()
    assert causes.earlier(REFUSED, urn("Host")) == ""
    assert causes.earlier(error, urn("Image")) == earlier


def test_another_failure_is_the_same_cause_when_its_text_is_the_same() -> None:
    causes = Causes()
    hangs = errors.DriftUnreadable(node="glm-1", doing="read", seen="docker gave no answer")
    assert [causes.earlier(hangs, urn(kind)) for kind in ("Host", "Serving")] == ["", "Host"]
    other = errors.DriftUnreadable(node="glm-1", doing="read", seen="exit code 1")
    assert causes.earlier(other, urn("Weights")) == ""


def test_the_resource_that_reported_a_cause_reports_it_whole_again() -> None:
    causes = Causes()
    assert {causes.message(REFUSED, urn("Host")) for _ in range(2)} == {str(REFUSED)}
