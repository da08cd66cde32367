"""The process of a plugin: serves resources over gRPC on a free loopback port, prints the port, ends with the Pulumi engine.

Needs the servicer. Called by __main__ here and by the lab's plugins: python -m PACKAGE ENGINE_ADDRESS.
"""

import sys
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from fleet.provider import engine, servicer
from fleet.provider.base import Resource

# The server is synchronous. With fewer threads than the Pulumi engine's parallel requests (PULUMI_PARALLEL of bootstrap/env.sh), Cancel
# would wait behind the creates. The pool starts a thread only when it needs one.
THREADS = 2048


def serve(
    resources: Mapping[str, Resource] | None = None,
    servicer_class: Callable[[engine.Engine, Any], Any] = servicer.Fleet,
) -> None:
    """Serve these resources by kind (None: the fleet's own) until the Pulumi engine has ended."""
    address = sys.argv[-1]  # after any flags
    provider = servicer_class(engine.Engine(address), resources)
    engine.watch(address, provider.cancelled.set, provider.busy)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS), options=engine.OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the Pulumi engine reads it from the first line
    server.wait_for_termination()
