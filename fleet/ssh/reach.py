"""Open a connection to a node with its pinned host key, through its bastion if it has one, or wait until that succeeds.

Needs paramiko (imported at the first connection, not at start-up). Called through the names in fleet.ssh.
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

# Seconds between two tries of `wait`, and for which it accepts refused logins: a booting machine may install the key late.
PAUSE = 1.0
LOGIN_GRACE = 20.0
# Handshakes at once: each takes a tenth of a second of CPU time, and a hundred together would exceed their timeouts.
HANDSHAKES = threading.BoundedSemaphore(16)


@contextlib.contextmanager
def connect(target: Target, timeout: float = 15) -> Iterator[Connection]:
    """Open a connection within `timeout` seconds, without the time spent waiting for a handshake slot.

    Raises HostKeyMismatch (only the pinned key is accepted), LoginRefused, else Unreachable.
    """
    import paramiko

    target.pinned()
    deadline = time.monotonic() + timeout
    with open_socket(target, timeout) as sock:
        left = deadline - time.monotonic()
        transport: paramiko.Transport | None = None
        try:
            with HANDSHAKES:
                deadline = time.monotonic() + left
                transport = paramiko.Transport(sock)
                transport.banner_timeout = transport.auth_timeout = max(0.5, deadline - time.monotonic())
                transport.set_keepalive(15)
                handshake.exchange_keys(target, transport, max(0.5, deadline - time.monotonic()))
                handshake.login(target, transport)
            yield Connection(target, transport)
        finally:
            if transport is not None:
                transport.close()


@contextlib.contextmanager
def open_socket(target: Target, timeout: float) -> Iterator[Any]:
    """Yield a TCP socket to the machine, or a channel through its bastion. Raises Unreachable."""
    # Without a handler, paramiko would log a failed handshake to stderr, beside our message.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    if target.bastion is None:
        with contextlib.closing(handshake.dial(target, timeout)) as sock:
            yield sock
        return
    deadline = time.monotonic() + timeout
    with connect(target.bastion, timeout) as bastion:
        left = max(0.5, deadline - time.monotonic())
        with contextlib.closing(handshake.dial_through(target, bastion.transport, left)) as channel:
            yield channel


def wait(target: Target, timeout: float, note: Callable[[str], None], cancelled: threading.Event | None = None) -> None:
    """Wait until the node answers with its pinned key and accepts our login; `note` gets a line after each try.

    Raises HostKeyMismatch at once, LoginRefused after LOGIN_GRACE, Unreachable after `timeout` seconds, Cancelled.
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
    """Return the known_hosts lines with the keys of the node and its bastion, by name (for HostKeyAlias)."""
    bastion = known_hosts(target.bastion) if target.bastion else ""
    return f"{target.name} {' '.join(target.host_key.split()[:2])}\n{bastion}"
