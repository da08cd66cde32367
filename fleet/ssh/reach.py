"""Open a connection to a node with its pinned host key, through its bastion where it has one, or wait until that works.

Needs paramiko (imported at the first connection, not at start-up). Callers use the names in fleet.ssh.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from fleet import errors
from fleet.ssh import handshake
from fleet.ssh.connection import Connection
from fleet.ssh.target import Target

# Seconds between two tries of `wait`, and for which a login may be refused; after that the key is wrong and not merely late.
PAUSE = 1.0
LOGIN_GRACE = 20.0
# Handshakes at once: each is a tenth of a second of this process's time, and a hundred of them together would all be late.
HANDSHAKES = threading.BoundedSemaphore(16)


@contextlib.contextmanager
def connect(target: Target, timeout: float = 15) -> Iterator[Connection]:
    """Open a connection within `timeout` seconds: TCP, banner, handshake and login; the wait for others' handshakes does not count.

    Raises HostKeyMismatch (only the pinned key is accepted), LoginRefused, else Unreachable.
    """
    import paramiko

    target.pinned()
    deadline = time.monotonic() + timeout
    with way(target, timeout) as sock:
        left = deadline - time.monotonic()
        transport: paramiko.Transport | None = None
        try:
            with HANDSHAKES:
                deadline = time.monotonic() + left
                transport = paramiko.Transport(sock)
                transport.banner_timeout = transport.auth_timeout = max(0.5, deadline - time.monotonic())
                transport.set_keepalive(15)
                handshake.agree(target, transport, max(0.5, deadline - time.monotonic()))
                handshake.login(target, transport)
            yield Connection(target, transport)
        finally:
            if transport is not None:
                transport.close()


@contextlib.contextmanager
def way(target: Target, timeout: float) -> Iterator[Any]:
    """Yield what carries the connection: a socket to the machine, or a channel through its bastion."""
    # Without a handler of its own paramiko's log of a failed handshake would reach stderr beside our message.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    if target.bastion is None:
        with contextlib.closing(handshake.dial(target, timeout)) as sock:
            yield sock
        return
    deadline = time.monotonic() + timeout
    with (
        connect(target.bastion, timeout) as bastion,
        contextlib.closing(handshake.through(target, bastion.transport, max(0.5, deadline - time.monotonic()))) as way,
    ):
        yield way


def wait(target: Target, timeout: float, note: Callable[[str], None], cancelled: threading.Event | None = None) -> None:
    """Wait until the node answers with its pinned key and lets us in; `note` says once in a while how it stands.

    Raises HostKeyMismatch at once, LoginRefused when refusals last, Unreachable after `timeout` seconds, Cancelled.
    """
    start = time.monotonic()
    refused_at: float | None = None
    while True:
        try:
            with connect(target, timeout=min(10.0, max(1.0, timeout - (time.monotonic() - start)))):
                return
        except errors.HostKeyMismatch:
            raise
        except errors.Unreachable as error:
            now = time.monotonic()
            refused_at = (refused_at or now) if isinstance(error, errors.LoginRefused) else None
            if now - start > timeout or (refused_at and now - refused_at > LOGIN_GRACE):
                raise
            note(f"waits for SSH at {target.where}: {error.seen} ({now - start:.0f} s)")
        if (cancelled or threading.Event()).wait(PAUSE):
            raise errors.Cancelled(node=target.name, doing=f"wait for SSH at {target.where}", seen="cancelled")


def known_hosts(target: Target) -> str:
    """Return the lines of a known_hosts file that pin the node's key, and its bastion's, under their names (use with HostKeyAlias)."""
    through = known_hosts(target.bastion) if target.bastion else ""
    return f"{target.name} {' '.join(target.host_key.split()[:2])}\n{through}"
