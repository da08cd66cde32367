"""A plugin's process: serves its resources over gRPC on a free loopback port and prints it; ends when the engine is gone.

Called by __main__ here and by the lab's plugins. Usage of all: python -m PACKAGE ENGINE_ADDRESS.
"""

import sys
from collections.abc import Mapping
from concurrent import futures

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from fleet.provider import engine, servicer
from fleet.provider.base import Resource

# A synchronous server: more threads than the engine works in parallel (PULUMI_PARALLEL of bootstrap/env.sh), or Cancel would wait
# behind the creates. They are made as they are needed.
THREADS = 512


def serve(made: Mapping[str, Resource] | None = None, kind: type[servicer.Fleet] = servicer.Fleet) -> None:
    """Serve these resources (none: the fleet's own) until the engine is gone. `kind`: a servicer that answers more questions."""
    address = sys.argv[-1]  # flags stand before it
    provider = kind(engine.Engine(address), made)
    engine.watch(address, provider.cancelled.set, provider.busy)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS), options=engine.OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the engine reads it from the first line
    server.wait_for_termination()
