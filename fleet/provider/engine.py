"""The Pulumi engine as seen from a plugin: show lines beside a resource, and end this process after the engine has ended.

Needs the engine's address. Called by servicer.py, plugin.py and policies/__main__.py.
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

# The registrations of 1,000 machines exceed gRPC's default of 4 MiB.
OPTIONS = [("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)]
# Seconds for work in progress to stop after the engine has ended; a cancelled Ansible run needs at most 9.
GRACE = 12.0


class Engine:
    """The Pulumi engine that started this plugin."""

    def __init__(self, address: str) -> None:
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, OPTIONS))

    def report(self, urn: str, message: str, ephemeral: bool = False, warning: bool = False) -> None:
        """Show a line beside a resource. An ephemeral line is its status, which the next line replaces."""
        message = printable.plain(message)
        severity = engine_pb2.WARNING if warning else engine_pb2.INFO
        with contextlib.suppress(grpc.RpcError):  # the engine has ended: `watch` ends this process
            self._stub.Log(engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral))

    def record(self, urn: str, message: str) -> None:
        """Add a debug event with JSON to the event log; only `pulumi --debug` shows it."""
        with contextlib.suppress(grpc.RpcError):
            self._stub.Log(engine_pb2.LogRequest(severity=engine_pb2.DEBUG, message=message, urn=urn))


def watch(address: str, stop: Callable[[], None], busy: Callable[[], bool]) -> None:
    """End this process after the Pulumi engine has ended: killed with -9, it sends no Cancel, but its port closes.

    `stop` cancels the work in progress; the process ends when `busy` returns False, at the latest after GRACE seconds.
    """

    def poll() -> None:
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

    threading.Thread(target=poll, name="watch", daemon=True).start()
