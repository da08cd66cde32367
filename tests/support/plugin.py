"""The plugin as the Pulumi engine uses it: a process, started with the engine's address, with requests over gRPC.

Owns the process, its channel, and a stand-in engine that keeps the log. Used by the fixtures of tests/provider.
"""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

Props = dict[str, Any]
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# The flags before the engine's address with `pulumi --logtostderr --logflow -v=9 --tracing …`.
DEBUG = ("--logtostderr", "-v=9", "--tracing", "tcp://127.0.0.1:1")
PATIENCE = 60  # seconds for a wait without a bound of its own


class Engine(engine_pb2_grpc.EngineServicer):
    """Keeps the plugin's lines; `close` frees its port, as the end of a killed CLI does."""

    def __init__(self) -> None:
        self.lines: list[engine_pb2.LogRequest] = []
        self._heard = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Log(self, request: engine_pb2.LogRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        with self._heard:
            self.lines.append(request)
            self._heard.notify_all()
        return empty_pb2.Empty()

    def hear(self, text: str) -> None:
        """Wait for a line with this text."""
        with self._heard:
            heard = self._heard.wait_for(lambda: any(text in line.message for line in self.lines), PATIENCE)
        assert heard, f"no line has {text!r}: {[line.message for line in self.lines]}"

    def close(self) -> None:
        self._server.stop(None).wait()


class Plugin:
    """One plugin process; a request is the kind of a resource and dictionaries. `runtime` has its runs' private folders."""

    def __init__(self, tree: Path, engine: Engine, runtime: Path, state: Path, *flags: str) -> None:
        self.engine, self.runtime = engine, runtime
        self.process = subprocess.Popen(
            [tree / "fleet" / "provider" / "pulumi-resource-fleet", *flags, engine.address],
            cwd=tree,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "FLEET_STATE": str(state)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self._channel = grpc.insecure_channel(f"127.0.0.1:{int(self.process.stdout.readline())}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self._channel)

    def close(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.communicate()

    def check(self, kind: str, news: Props) -> provider_pb2.CheckResponse:
        return self.stub.Check(provider_pb2.CheckRequest(urn=urn(kind), news=struct(news)))

    def diff(self, kind: str, old_inputs: Props, olds: Props, news: Props) -> provider_pb2.DiffResponse:
        fields = {"old_inputs": struct(old_inputs), "olds": struct(olds), "news": struct(news)}
        return self.stub.Diff(provider_pb2.DiffRequest(id=ident(kind), urn=urn(kind), **fields))

    def create(self, kind: str, inputs: Props, preview: bool = False) -> Props:
        answer = self.stub.Create(creation(kind, inputs, preview))
        assert answer.id == ("" if preview else ident(kind))
        return plain(answer.properties)

    def start(self, kind: str, inputs: Props) -> grpc.Future:
        """Begin a create without waiting for it."""
        return self.stub.Create.future(creation(kind, inputs, False))

    def update(
        self, kind: str, old_inputs: Props, olds: Props, news: Props, preview: bool = False, name: str = "glm-1"
    ) -> Props:
        fields = {"old_inputs": struct(old_inputs), "olds": struct(olds), "news": struct(news)}
        request = provider_pb2.UpdateRequest(id=ident(kind), urn=urn(kind, name), preview=preview, **fields)
        return plain(self.stub.Update(request).properties)

    def read(self, kind: str, inputs: Props, properties: Props) -> Props:
        fields = {"inputs": struct(inputs), "properties": struct(properties)}
        answer = self.stub.Read(provider_pb2.ReadRequest(id=ident(kind), urn=urn(kind), **fields))
        assert plain(answer.inputs) == inputs
        return plain(answer.properties)

    def delete(self, kind: str, properties: Props) -> None:
        self.stub.Delete(provider_pb2.DeleteRequest(id=ident(kind), urn=urn(kind), properties=struct(properties)))

    def forecast(self, beside: str) -> None:
        """Call the one function, as the program does at the end of a preview."""
        args = struct({"beside": beside})
        self.stub.Invoke(provider_pb2.InvokeRequest(tok="fleet:index:forecast", args=args))

    def processes(self) -> list[str]:
        """Return the command lines of its runs' living processes: they have a mark, or (an ssh master) name their socket."""
        mark, lines = f"FLEET_RUN={self.runtime}/".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if mark in (entry / "environ").read_bytes() or f"{self.runtime}/".encode() in line:
                    lines.append(line.replace(b"\0", b" ").decode(errors="replace"))
        return lines

    def cancel(self) -> None:
        self.stub.Cancel(empty_pb2.Empty())


@dataclass(frozen=True)
class PartialState:
    """The state that the engine saves of a resource whose create or update failed."""

    id: str
    properties: Props
    reasons: list[str]


def expect_error(call: Callable[..., Any], *arguments: Any) -> grpc.RpcError:
    """Return the error of a request that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value


def partial_state(error: grpc.RpcError) -> PartialState:
    """Read the partial state from the trailer of a failed request."""
    trailer = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status, detail = status_pb2.Status.FromString(trailer), provider_pb2.ErrorResourceInitFailed()
    assert (status.code, status.message) == (error.code().value[0], error.details())
    assert status.details[0].Unpack(detail)
    return PartialState(detail.id, plain(detail.properties), list(detail.reasons))


def urn(kind: str, name: str = "glm-1") -> str:
    parent = "" if kind == "Node" else "fleet:index:Node$"
    return f"urn:pulumi:test::glm-fleet::{parent}fleet:index:{kind}::{name}"


def ident(kind: str) -> str:
    return f"{kind.lower()}/glm-1"


def creation(kind: str, inputs: Props, preview: bool) -> provider_pb2.CreateRequest:
    return provider_pb2.CreateRequest(urn=urn(kind), properties=struct(inputs), preview=preview)


def struct(values: Props) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def plain(values: struct_pb2.Struct) -> Props:
    """Return the struct as a dictionary; numbers stay floats, which equal their whole numbers."""
    return json_format.MessageToDict(values)


Launch = Callable[..., Plugin]  # an engine, flags


def doing(inputs: Props, action: str) -> Props:
    """Return the inputs with another action of the role `site`."""
    return {**inputs, "vars": {**inputs["vars"], "site_does": action}}
