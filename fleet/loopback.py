"""A listener on this machine's loopback, whose connections go elsewhere: the base of those of fleet.ssh and fleet.cluster.

Owns the listener's threads and ends them on exit. Needs nothing.
"""

import socketserver
import threading
from typing import Self


class Loopback(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1:`local` (0 = any free port); leaving the context ends every connection and thread."""

    request_queue_size = 128  # by default 5: the kernel resets some of thirty clients that connect at once
    allow_reuse_address = True
    daemon_threads = False
    broken = False  # whether the connection to the node has ended, if the listener can see that

    def __init__(self, local: int = 0) -> None:
        super().__init__(("127.0.0.1", local), socketserver.BaseRequestHandler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="forward")

    @property
    def port(self) -> int:
        """Return the local port."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.stop()
        self.server_close()  # joins the threads of the connections, which `stop` has ended

    def start(self) -> None:
        """Start what the connections need besides the listener."""

    def stop(self) -> None:
        """End all connections to the node."""
