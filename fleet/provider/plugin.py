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
# gRPC refuses at random beyond 1,000 requests that Python has not taken yet, and every one after 30 seconds: `CANCELLED`. A refresh of 500
# machines sends 2,000 reads at once, and on a busy controller Python takes them slowly. The engine's PULUMI_PARALLEL is the limit.
OPTIONS = [
    *engine.OPTIONS,
    ("grpc.server.max_pending_requests", 1 << 20),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 20),
    ("grpc.server_max_unrequested_time_in_server", 24 * 3600),
]


def serve(
    resources: Mapping[str, Resource] | None = None,
    servicer_class: Callable[[engine.Engine, Any], Any] = servicer.Fleet,
) -> None:
    """Serve these resources by kind (None: the fleet's own) until the Pulumi engine has ended."""
    address = sys.argv[-1]  # after any flags
    provider = servicer_class(engine.Engine(address), resources)
    engine.watch(address, provider.cancelled.set, provider.busy)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS), options=OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the Pulumi engine reads it from the first line
    server.wait_for_termination()
