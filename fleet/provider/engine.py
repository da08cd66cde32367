"""The engine's side of the plugin: lines and status that appear beside a resource, and noticing that the engine is gone.

Needs the engine's address. Used by the servicer; nothing here knows resources.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from fleet import printable

# A plan of 1,000 machines is more than gRPC's 4 MiB.
OPTIONS = [("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)]
# Seconds that work in hand has for stopping in order once the engine is gone; a cancelled Ansible run needs at most 9.
GRACE = 12.0


class Engine:
    """Speaks to the engine that started this plugin."""

    def __init__(self, address: str) -> None:
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, OPTIONS))

    def say(self, urn: str, message: str, ephemeral: bool = False, warning: bool = False) -> None:
        """Show a line beside a resource; an ephemeral one is its status, replaced by the next and not kept."""
        message = printable.plain(message)
        severity = engine_pb2.WARNING if warning else engine_pb2.INFO
        with contextlib.suppress(grpc.RpcError):  # the engine is gone: nobody reads, and the watch ends us
            self._stub.Log(engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral))


def watch(address: str, stop: Callable[[], None], busy: Callable[[], bool]) -> None:
    """End this process when the engine is gone: a CLI killed with -9 sends no Cancel, and its port closes.

    `stop` cancels the work in hand; the process goes when nothing is `busy` any more, at the latest after GRACE seconds.
    """

    def look() -> None:
        host, _, port = address.rpartition(":")
        while True:
            time.sleep(1)
            try:
                socket.create_connection((host, int(port)), 2).close()
            except OSError:
                break
        stop()
        deadline = time.monotonic() + GRACE
        while busy() and time.monotonic() < deadline:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=look, name="watch", daemon=True).start()
