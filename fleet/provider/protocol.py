"""What every plugin of this project answers about itself, and how it counts the requests in progress.

Knows gRPC and no resource. Base of the servicers here and of the lab's stand-in for Pulumi's Kubernetes plugin.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NoReturn

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from fleet.provider.properties import to_dict

Context = grpc.ServicerContext


class Plugin(provider_pb2_grpc.ResourceProviderServicer):
    """A plugin without resources."""

    version = ""
    schema = "{}"  # JSON

    def __init__(self) -> None:
        self._requests = 0  # in progress, about resources
        self._lock = threading.Lock()
        self.cancelled = threading.Event()

    def busy(self) -> bool:
        """Return whether a request about a resource is in progress."""
        with self._lock:
            return self._requests > 0

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Count a request about a resource as in progress."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Context) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self.version)

    def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: Context) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(schema=self.schema)

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        """Report changed settings, or the Pulumi engine would keep the old ones; they change no resource."""
        differ = to_dict(request.old_inputs) != to_dict(request.news)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if differ else provider_pb2.DiffResponse.DIFF_NONE
        )

    def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        self.cancelled.set()
        return empty_pb2.Empty()


def fail_with_state(
    context: Context, ident: str, state: struct_pb2.Struct, message: str, inputs: struct_pb2.Struct | None = None
) -> NoReturn:
    """Fail with a state that the Pulumi engine saves: the resource exists, and the next `up` continues with it."""
    detail = provider_pb2.ErrorResourceInitFailed(id=ident, properties=state, inputs=inputs, reasons=[message])
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, message)
