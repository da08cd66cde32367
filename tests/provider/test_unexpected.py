"""An unexpected exception ends a resource in one message, with its traceback in the log and all known values in the state.

The servicer is real, in this process; each test replaces the run, the reader or the probes.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from fleet import errors
from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.provider import baremetal, node, serving
from fleet.provider.base import Resource
from fleet.provider.servicer import Fleet
from fleet.provider.slots import Slots
from tests.support.plugin import PartialState, Props, creation, expect_error, ident, partial_state, struct, urn
from tests.support.ssh_server import Server

KEY = "a-key-that-nobody-may-read-here"
REPLICAS = [{"name": "glm-0", "port": 8000, "model": "glm"}]
THING = "file /etc/new"


class Silent:
    """An engine without a log."""

    def report(self, urn: str, message: str, ephemeral: bool = False, warning: bool = False) -> None:
        """Drop the message."""


@contextlib.contextmanager
def serve(kind: str, resource: Resource) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    """Serve one kind of resource over gRPC."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Fleet(Silent(), {kind: resource}), server)  # type: ignore[arg-type]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield provider_pb2_grpc.ResourceProviderStub(channel)
    server.stop(None).wait()


@pytest.fixture
def inputs(server: Server) -> Props:
    target = server.target
    reach = {"name": "glm-1", "address": target.address, "port": target.port, "identity": target.identity}
    node = {**reach, "host_key": target.host_key}
    return {"node": node, "vars": {}, "roles": {}, "api_key": KEY, "probes": {"cases": [], "min_iou": 0.5}}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    return tmp_path


def broken(*_: Any, **__: Any) -> Any:
    raise RecursionError(f"maximum depth of {KEY}\x1b[2J")


def succeed(*_: Any) -> converge.Outcome:
    return converge.Outcome({"fleet_serving": {"replicas": REPLICAS}}, managed_set.Declared({THING: True}), 1, 1, {})


def read(*_: Any) -> list[managed_set.State]:
    return [{THING: {"type": "file"}}]


def serving_of(run: Callable[..., Any] = succeed, read: Callable[..., Any] = read) -> serving.Serving:
    return serving.Serving("Serving", ("replicas", "verdict"), Slots(), run=run, read=read, run_probes=broken)


def create(resource: Resource, inputs: Props) -> PartialState:
    with serve("Serving", resource) as stub:
        return partial_state(expect_error(stub.Create, creation("Serving", inputs, False)))


def test_a_probe_that_breaks_keeps_the_successful_run(inputs: Props) -> None:
    partial = create(serving_of(), inputs)
    assert partial.id == "serving/glm-1"
    assert partial.properties["replicas"] == REPLICAS
    assert partial.properties["managed"] == {"declared": {THING: True}, "expected": {THING: {"type": "file"}}}
    assert {key: partial.properties[key] for key in inputs} == inputs


def test_the_message_names_node_kind_place_and_log_and_has_no_traceback_and_no_secret(inputs: Props) -> None:
    partial = create(serving_of(), inputs)
    (message,) = partial.reasons
    first, expected, next_step = message.splitlines()
    assert first.startswith("glm-1: Serving: a bug of glm-fleet: RecursionError at probing.py:")
    assert first.endswith(", in probe: maximum depth of (secret)\\x1b[2J")
    assert expected.startswith("  wanted: ")
    assert next_step.startswith("  next:   report it with the traceback in ")
    assert KEY not in message


def test_the_traceback_is_in_the_run_s_log_without_the_secret(inputs: Props) -> None:
    partial = create(serving_of(), inputs)
    log = Path(partial.properties["log"])
    text = log.read_text()
    assert "Traceback (most recent call last)" in text and "RecursionError: maximum depth of (secret)" in text
    assert KEY not in text and "\x1b" not in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert str(log) in partial.reasons[0]


def test_a_run_that_breaks_keeps_the_old_state(inputs: Props) -> None:
    with serve("Serving", serving_of(run=broken)) as stub:
        olds = {**inputs, "managed": {"declared": {"file /old": True}, "expected": {}}, "replicas": REPLICAS}
        request = provider_pb2.UpdateRequest(
            id=ident("Serving"), urn=urn("Serving"), olds=struct(olds), news=struct(inputs), old_inputs=struct(inputs)
        )
        partial = partial_state(expect_error(stub.Update, request))
    assert partial.properties["managed"] == {"declared": {"file /old": True}, "expected": {}}
    assert partial.properties["replicas"] == REPLICAS


def test_a_reader_that_breaks_keeps_the_run_s_declarations(inputs: Props) -> None:
    partial = create(serving_of(read=broken), inputs)
    assert partial.properties["managed"] == {"declared": {THING: True}, "expected": {}}


@pytest.mark.parametrize("verb", ["read", "delete"])
def test_a_refresh_and_a_delete_that_break_end_in_the_message_and_leave_the_state_as_it_is(
    inputs: Props, state: Path, verb: str
) -> None:
    with serve("Serving", serving_of(run=broken, read=broken)) as stub:
        fields = {"id": ident("Serving"), "urn": urn("Serving"), "properties": struct({**inputs, "managed": {}})}
        call = {"read": lambda: stub.Read(provider_pb2.ReadRequest(**fields)),
                "delete": lambda: stub.Delete(provider_pb2.DeleteRequest(**fields))}[verb]  # fmt: skip
        error = expect_error(call)
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert error.details().startswith("glm-1: Serving: a bug of glm-fleet: RecursionError at ")
    (log,) = (state / "logs").glob("test-serving-glm-1-*-bug.log")
    assert "Traceback" in log.read_text()


def test_a_node_that_breaks_leaves_no_state(connection: Props, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Node's state says that its machine has passed the preflight and has the mark."""
    monkeypatch.setattr(node, "_read_facts", broken)
    with serve("Node", node.Node()) as stub:
        error = expect_error(stub.Create, creation("Node", {**connection, "wait": 30}, False))
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert "a bug of glm-fleet: RecursionError" in error.details()


class Installing:
    """An installation that has begun, and breaks."""

    stage = "installs"

    def __init__(self, *_: Any) -> None:
        pass

    run = broken


def test_an_installation_that_breaks_keeps_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baremetal.install, "Installation", Installing)
    monkeypatch.setattr(baremetal, "_job", lambda inputs: None)
    inputs = {"name": "glm-1", "bmc": "https://bmc.example", "address": "192.0.2.1", "reinstall": "2026-11-29"}
    with serve("BareMetal", baremetal.BareMetal()) as stub:
        partial = partial_state(expect_error(stub.Create, creation("BareMetal", inputs, False)))
    assert partial.properties["attempt"] == {"nonce": "2026-11-29", "stage": "installs"}


def test_an_error_of_ours_keeps_its_own_message(inputs: Props) -> None:
    def fail(*_: Any) -> converge.Outcome:
        raise errors.ConvergeFailed(node="glm-1", seen="it broke")

    partial = create(serving_of(run=fail), inputs)
    assert partial.reasons == ["glm-1: it broke"]
