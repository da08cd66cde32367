"""One cause is one message a run: the first resource that notices reports a node that does not answer."""

import socket

import pytest

from fleet import errors
from fleet.drift import Difference
from fleet.provider.causes import Causes
from tests.support.plugin import Plugin, Props, expect_error, partial_state, urn

MANAGED = {"managed": {"declared": {"file /etc/hosts": False}, "expected": {}}, "drift": []}
DRIFT = {**MANAGED, "drift": [Difference("file", "/etc/hosts", "present", True, False).to_json()]}


@pytest.fixture
def silent_node(connection: Props) -> Props:
    """A node whose port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as socket_server:
        return {**connection, "name": "glm-1", "port": socket_server.getsockname()[1]}


def test_a_refresh_reports_a_node_that_does_not_answer_once(fresh_plugin: Plugin, silent_node: Props) -> None:
    state = {"node": silent_node, "roles": {}, "vars": {}, **MANAGED}
    details = expect_error(fresh_plugin.read, "Host", {}, state).details()
    assert details.startswith(f"glm-1: connect to root@127.0.0.1:{silent_node['port']}: connection refused\n")
    for kind in ("Image", "Weights", "Serving"):
        assert fresh_plugin.read(kind, {}, state) == state, "the rest keeps its state"


def test_an_update_that_fails_for_a_reported_cause_fails_in_one_line_and_keeps_its_state(
    fresh_plugin: Plugin, silent_node: Props
) -> None:
    inputs = {"node": silent_node, "roles": {}, "vars": {}}
    expect_error(fresh_plugin.update, "Image", inputs, {**inputs, **DRIFT}, inputs)
    error = expect_error(fresh_plugin.update, "Weights", inputs, {**inputs, **DRIFT}, inputs)
    assert error.details() == "glm-1: Weights: not done, for the reason reported with Image"
    partial = partial_state(error)
    assert partial.reasons == [error.details()]
    assert partial.properties["managed"] == MANAGED["managed"]


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
