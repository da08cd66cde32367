"""SSH connections to nodes with a pinned host key: one command, a forwarded port, waiting until a machine answers.

Owns how a node is reached, not what is asked of it. Needs paramiko (imported at the first connection, not at start-up).
Called by `fleet.ansible`, `fleet.managed` and `fleet.preflight`, by `fleet.provider` for Node and the probes, by `fleet.cli` for tunnels.
"""

import contextlib
import functools
import logging
import select
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet import errors
from fleet.ssh import handshake, relay, tunnel
from fleet.ssh.target import Target

if TYPE_CHECKING:
    import paramiko

# Between two tries of `wait`; a refused login may only last this long, then the key is wrong and not merely late.
PAUSE = 1.0
LOGIN_GRACE = 20.0
# Bytes of what a command prints in all, and of one line where it is read line by line: ours print far less, and the other side chooses.
MOST, LONGEST = 32 << 20, 1 << 20
# Handshakes at once: each is a tenth of a second of this process's time, and a hundred of them together would all be late.
HANDSHAKES = threading.BoundedSemaphore(16)


@dataclass(frozen=True)
class Result:
    """What a command on the node gave. `rc` is its exit code."""

    rc: int
    stdout: str
    stderr: str


class Connection:
    """An open, authenticated connection; use it from as many threads as you like."""

    def __init__(self, target: Target, transport: "paramiko.Transport") -> None:
        self.target = target
        self.transport = transport

    def run(self, command: str, stdin: str = "", timeout: float = 60) -> Result:
        """Run a shell command as root (`sudo -n` when `become`) and return its exit code and output, whatever the code.

        Raises CommandFailed when it has not ended after `timeout` seconds (it may go on there: bound long work on the
        node itself) or prints more than MOST bytes, Unreachable when the connection breaks.
        """
        import paramiko

        deadline = time.monotonic() + timeout
        out: tuple[list[bytes], list[bytes]] = ([], [])
        try:
            with self._exec(command, stdin, timeout) as channel:
                if not self._collect(channel, out, deadline):
                    raise self._floods(command, f"more than {MOST >> 20} MiB of output")
                rc = channel.recv_exit_status() if channel.status_event.wait(deadline - time.monotonic()) else None
        except (paramiko.SSHException, OSError, EOFError) as error:
            if not isinstance(error, TimeoutError):
                raise self._lost(command) from error
            rc = None
        if rc is None:
            raise self._hangs(command, f"no end within {timeout:g} s", "an exit code")
        if rc < 0:
            raise self._lost(command)
        return Result(rc, *(b"".join(part).decode(errors="replace") for part in out))

    def lines(self, command: str, stdin: str = "", silence: float = 60) -> Iterator[str]:
        """Run a shell command as root and yield each line of its stdout as it comes, however long the command takes.

        Raises CommandFailed when it ends badly, prints a line of more than LONGEST bytes, or says nothing for `silence` seconds;
        Unreachable when the connection breaks.
        """
        import paramiko

        try:
            with self._exec(command, stdin, silence) as channel:
                stdout = channel.makefile("rb")
                while line := stdout.readline(LONGEST):
                    if len(line) >= LONGEST:
                        raise self._floods(command, f"a line of more than {LONGEST >> 20} MiB")
                    yield line.decode(errors="replace")
                rc = channel.recv_exit_status() if channel.status_event.wait(silence) else None
                said = channel.makefile_stderr("rb").read(LONGEST).decode(errors="replace") if rc else ""
        except TimeoutError:
            rc, said = None, ""
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._lost(command) from error
        if rc is None:
            raise self._hangs(command, f"not a word for {silence:g} s", "a line of progress")
        if rc < 0:
            raise self._lost(command)
        if rc:
            raise errors.CommandFailed(
                node=self.target.name,
                doing=_short(command),
                seen=(said.strip().splitlines() or [f"exit code {rc}"])[-1],
                wanted="exit code 0",
                next=f"{self.target.login}, and look there",
            )

    @contextlib.contextmanager
    def _exec(self, command: str, stdin: str, timeout: float) -> Iterator["paramiko.Channel"]:
        """Start a command as root, with all of its stdin; each read of it waits `timeout` seconds at most."""
        with self._begin(command, timeout) as channel:
            if stdin:
                channel.sendall(stdin.encode())
            channel.shutdown_write()
            yield channel

    @contextlib.contextmanager
    def _begin(self, command: str, timeout: float) -> Iterator["paramiko.Channel"]:
        """Start a command as root, its input open; each read of it waits `timeout` seconds at most."""
        line = f"sudo -n -- sh -c {shlex.quote(command)}" if self.target.become else command
        with contextlib.closing(self.transport.open_session(timeout=timeout)) as channel:
            channel.settimeout(timeout)
            channel.exec_command(line)
            yield channel

    @staticmethod
    def _collect(channel: "paramiko.Channel", out: tuple[list[bytes], list[bytes]], deadline: float) -> bool:
        """Read both streams until both ended; TimeoutError at the deadline. False, at once, where they are more than MOST bytes."""
        size = 0
        while not (channel.eof_received or channel.closed) or channel.recv_ready() or channel.recv_stderr_ready():
            if channel.recv_ready() or channel.recv_stderr_ready():
                part, read = (out[0], channel.recv) if channel.recv_ready() else (out[1], channel.recv_stderr)
                part.append(read(1 << 16))
                size += len(part[-1])
                if size > MOST:
                    return False
                if time.monotonic() > deadline:  # it prints without end
                    raise TimeoutError
            elif (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            else:
                select.select([channel], [], [], min(left, 0.5))
        return True

    @contextlib.contextmanager
    def forward(self, remote: int | str, local: int = 0) -> Iterator[int]:
        """Bring the node's 127.0.0.1:`remote`, or its unix socket of that path, to a port of this machine's loopback (`local`, 0 = any free one).

        Yields the local port; several clients at once may use it. FleetError when `local` is taken, CommandFailed when the node cannot
        carry connections to its socket; Unreachable at the end when the connection broke meanwhile: what clients saw then came from nowhere.
        """
        doing = f"forward port {remote}" if isinstance(remote, int) else f"forward {remote}"
        with contextlib.ExitStack() as stack:
            make: Callable[[int], tunnel.Loopback]
            if isinstance(remote, int):
                make = functools.partial(tunnel.Listener, self.transport, remote)
            else:
                make = functools.partial(relay.Listener, stack.enter_context(self._relay(remote, doing)))
            try:
                listener = make(local)
            except OSError as error:
                raise errors.FleetError(
                    node=self.target.name,
                    doing=doing,
                    seen=f"port {local} of this machine is taken" if local else f"no local port: {error.strerror}",
                    wanted=f"a listener on 127.0.0.1:{local}" if local else "a listener on 127.0.0.1",
                    next="choose another port (0 takes a free one)",
                ) from error
            with listener:
                yield listener.port
        if listener.broken or not self.transport.is_active():
            raise self._lost(doing)

    @contextlib.contextmanager
    def _relay(self, path: str, doing: str) -> Iterator["paramiko.Channel"]:
        """Start the program that carries connections to a socket of the node, and wait until it runs."""
        with self._begin(relay.COMMAND, 15) as channel:
            if said := relay.begin(channel, path):
                raise errors.CommandFailed(
                    node=self.target.name,
                    doing=doing,
                    seen=said,
                    wanted="/usr/bin/python3, run by root there",
                    next=f"{self.target.login}, and look there",
                )
            yield channel

    def _hangs(self, command: str, seen: str, wanted: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            node=self.target.name,
            doing=_short(command),
            seen=seen,
            wanted=wanted,
            next=f"look at the load of {self.target.name}; it may hang on a disk or a lock",
        )

    def _floods(self, command: str, seen: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            node=self.target.name,
            doing=_short(command),
            seen=seen,
            wanted="what our scripts print, which is little",
            next=f"{self.target.login}, and find out what prints there",
        )

    def _lost(self, command: str) -> errors.Unreachable:
        return errors.Unreachable(
            node=self.target.name,
            doing=_short(command),
            seen="the connection broke",
            wanted="one that lasts until the command ends",
            next=f"{self.target.login} uptime",
        )


@contextlib.contextmanager
def connect(target: Target, timeout: float = 15) -> Iterator[Connection]:
    """Open a connection within `timeout` seconds: TCP, banner, handshake and login together, less the wait for others' handshakes.

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


def _short(command: str) -> str:
    first = command.strip().splitlines()[0] if command.strip() else "a command"
    return first if len(first) <= 60 else f"{first[:57]}..."
