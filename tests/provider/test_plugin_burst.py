"""The plugin's gRPC server takes all requests that the Pulumi engine sends at once, however slowly Python takes them."""

import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.protobuf import empty_pb2

from fleet.provider import plugin

# More than gRPC's own hard limit for requests that the server has not taken yet, 3,000; from 1,000 on it refuses some.
BURST = 4000
METHOD = "/pulumirpc.ResourceProvider/GetPluginInfo"


class Busy(grpc.GenericRpcHandler):
    """Takes a first request, and no second one before `go`."""

    def __init__(self) -> None:
        self.taken, self.go = threading.Event(), threading.Event()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        self.taken.set()
        self.go.wait(60)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


@pytest.fixture
def busy() -> Iterator[tuple[Busy, str]]:
    """A server with the plugin's options, and its address."""
    handler = Busy()
    server = grpc.server(futures.ThreadPoolExecutor(4), [handler], options=plugin.OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    handler.go.set()
    server.stop(None)


def test_no_request_of_a_burst_is_refused(busy: tuple[Busy, str]) -> None:
    handler, address = busy
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(METHOD, empty_pb2.Empty.SerializeToString, bytes)
        calls = [ask.future(empty_pb2.Empty())]
        assert handler.taken.wait(60)
        calls += [ask.future(empty_pb2.Empty()) for _ in range(BURST)]
        handler.go.set()
        refused = [call.code() for call in calls if call.code() is not grpc.StatusCode.OK]
    assert refused == []
