"""An exception that nobody foresaw ends a resource in one message, its traceback in the log, and the state keeps all that was known.

The servicer is real, in this process; the run, the reader and the probes are what a test makes of them.
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
from tests.support.plugin import HalfMade, Props, creation, half_made, ident, struct, urn
from tests.support.ssh_server import Server

KEY = "a-key-that-nobody-may-read-here"
REPLICAS = [{"name": "glm-0", "port": 8000, "model": "glm"}]
THING = "file /etc/new"


class Silent:
    """An engine that nobody reads."""

    def report(self, urn: str, message: str, ephemeral: bool = False, warning: bool = False) -> None:
        """Say nothing."""


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
    reached = {"name": "glm-1", "address": target.address, "port": target.port, "identity": target.identity}
    node = {**reached, "host_key": target.host_key}
    return {"node": node, "vars": {}, "roles": {}, "api_key": KEY, "probes": {"cases": [], "min_iou": 0.5}}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    return tmp_path


def broken(*_: Any, **__: Any) -> Any:
    raise RecursionError(f"maximum depth of {KEY}\x1b[2J")


def ran(*_: Any) -> converge.Outcome:
    return converge.Outcome({"fleet_serving": {"replicas": REPLICAS}}, managed_set.Declared({THING: True}), 1, 1, {})


def read(*_: Any) -> list[managed_set.State]:
    return [{THING: {"type": "file"}}]


def made(run: Callable[..., Any] = ran, read: Callable[..., Any] = read) -> serving.Serving:
    return serving.Serving("Serving", ("replicas", "verdict"), Slots(), run=run, read=read, run_probes=broken)


def ends(call: Callable[[], Any]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def create(resource: Resource, inputs: Props) -> HalfMade:
    with serve("Serving", resource) as stub:
        return half_made(ends(lambda: stub.Create(creation("Serving", inputs, False))))


def test_a_probe_that_breaks_keeps_the_run_that_went_well(inputs: Props) -> None:
    half = create(made(), inputs)
    assert half.id == "serving/glm-1"
    assert half.properties["replicas"] == REPLICAS
    assert half.properties["managed"] == {"declared": {THING: True}, "expected": {THING: {"type": "file"}}}
    assert {key: half.properties[key] for key in inputs} == inputs


def test_the_message_names_node_kind_place_and_log_and_has_no_traceback_and_no_secret(inputs: Props) -> None:
    half = create(made(), inputs)
    (message,) = half.reasons
    first, wanted, after = message.splitlines()
    assert first.startswith("glm-1: Serving: a bug of glm-fleet: RecursionError at serving.py:")
    assert first.endswith(", in _probe: maximum depth of (secret)\\x1b[2J")
    assert wanted.startswith("  wanted: ")
    assert after.startswith("  next:   report it with the traceback in ")
    assert KEY not in message


def test_the_traceback_is_in_the_run_s_log_without_the_secret(inputs: Props) -> None:
    half = create(made(), inputs)
    log = Path(half.properties["log"])
    text = log.read_text()
    assert "Traceback (most recent call last)" in text and "RecursionError: maximum depth of (secret)" in text
    assert KEY not in text and "\x1b" not in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert str(log) in half.reasons[0]


def test_a_run_that_breaks_keeps_what_was_known_before_it(inputs: Props) -> None:
    with serve("Serving", made(run=broken)) as stub:
        olds = {**inputs, "managed": {"declared": {"file /old": True}, "expected": {}}, "replicas": REPLICAS}
        request = provider_pb2.UpdateRequest(
            id=ident("Serving"), urn=urn("Serving"), olds=struct(olds), news=struct(inputs), old_inputs=struct(inputs)
        )
        half = half_made(ends(lambda: stub.Update(request)))
    assert half.properties["managed"] == {"declared": {"file /old": True}, "expected": {}}
    assert half.properties["replicas"] == REPLICAS


def test_a_reader_that_breaks_keeps_what_the_run_declared(inputs: Props) -> None:
    half = create(made(read=broken), inputs)
    assert half.properties["managed"] == {"declared": {THING: True}, "expected": {}}


@pytest.mark.parametrize("what", ["read", "delete"])
def test_a_refresh_and_a_delete_that_break_end_in_the_message_and_leave_the_state_as_it_is(
    inputs: Props, state: Path, what: str
) -> None:
    with serve("Serving", made(run=broken, read=broken)) as stub:
        given = {"id": ident("Serving"), "urn": urn("Serving"), "properties": struct({**inputs, "managed": {}})}
        call = {"read": lambda: stub.Read(provider_pb2.ReadRequest(**given)),
                "delete": lambda: stub.Delete(provider_pb2.DeleteRequest(**given))}[what]  # fmt: skip
        error = ends(call)
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert error.details().startswith("glm-1: Serving: a bug of glm-fleet: RecursionError at ")
    (log,) = (state / "logs").glob("test-serving-glm-1-*-bug.log")
    assert "Traceback" in log.read_text()


def test_a_node_that_breaks_is_taken_anew_by_the_next_run(connection: Props, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of it: a state of a Node says that its machine was looked at and marked."""
    monkeypatch.setattr(node, "_read_facts", broken)
    with serve("Node", node.Node()) as stub:
        error = ends(lambda: stub.Create(creation("Node", {**connection, "wait": 30}, False)))
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert "a bug of glm-fleet: RecursionError" in error.details()


class Installing:
    """An installation that has begun, and breaks."""

    stage = "installs"

    def __init__(self, *_: Any) -> None:
        pass

    run = broken


def test_an_installation_that_breaks_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baremetal.install, "Installation", Installing)
    monkeypatch.setattr(baremetal, "_job", lambda inputs: None)
    inputs = {"name": "glm-1", "bmc": "https://bmc.example", "address": "192.0.2.1", "reinstall": "2026-11-29"}
    with serve("BareMetal", baremetal.BareMetal()) as stub:
        half = half_made(ends(lambda: stub.Create(creation("BareMetal", inputs, False))))
    assert half.properties["attempt"] == {"nonce": "2026-11-29", "stage": "installs"}


def test_our_own_errors_are_told_as_before(inputs: Props) -> None:
    def fail(*_: Any) -> converge.Outcome:
        raise errors.ConvergeFailed(node="glm-1", seen="it broke")

    half = create(made(run=fail), inputs)
    assert half.reasons == ["glm-1: it broke"]
